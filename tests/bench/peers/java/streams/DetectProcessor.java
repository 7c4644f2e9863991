package streams;

import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import shared.AccountState;
import shared.HealthReader;
import shared.Hits;
import shared.Meter;
import shared.Rules;

/** Reads an account's state, folds the event into it, writes it back, and forwards what fired. */
final class DetectProcessor implements Processor<String, byte[], String, byte[]> {
    private final Rules rules;
    private final String storeName;
    private final HealthReader reader = new HealthReader();
    private final Meter.Counter counter = new Meter.Counter();
    private ProcessorContext<String, byte[]> context;
    private KeyValueStore<String, byte[]> accounts;

    DetectProcessor(Rules rules, String storeName) {
        this.rules = rules;
        this.storeName = storeName;
    }

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
        this.context = context;
        this.accounts = context.getStateStore(storeName);
    }

    @Override
    public void process(Record<String, byte[]> event) {
        reader.read(event.value());
        byte[] stored = accounts.get(event.key());
        // A copy: the stores in memory hand out what they keep.
        byte[] state = stored == null ? AccountState.fresh() : stored.clone();
        int hits = AccountState.fold(state, rules, reader.occurredAt, reader.health, reader.risk);
        accounts.put(event.key(), state);
        if ((hits & AccountState.HEALTH_HIT) != 0) {
            forward(event, rules.healthId);
        }
        if ((hits & AccountState.RISK_HIT) != 0) {
            forward(event, rules.riskId);
        }
        counter.add();
    }

    private void forward(Record<String, byte[]> event, String triggerId) {
        RecordMetadata place = context.recordMetadata().orElseThrow();
        context.forward(event.withValue(Hits.json(triggerId, event.key(), place.partition(), place.offset())));
    }
}
