package flink;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import shared.AccountState;
import shared.Hits;
import shared.Meter;
import shared.Rules;

/** Folds each event into its account's state, and emits (account, hit) for what fired. */
final class DetectFunction extends KeyedProcessFunction<String, HealthEvent, Tuple2<String, byte[]>> {
    private static final long serialVersionUID = 1L;
    private final Rules rules;
    private transient ValueState<byte[]> account;
    private transient Meter.Counter counter;

    DetectFunction(Rules rules) {
        this.rules = rules;
    }

    @Override
    public void open(OpenContext context) {
        counter = new Meter.Counter();
        account = getRuntimeContext()
                .getState(new ValueStateDescriptor<>("account", PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
    }

    @Override
    public void processElement(HealthEvent event, Context context, Collector<Tuple2<String, byte[]>> out)
            throws Exception {
        byte[] state = account.value();
        if (state == null) {
            state = AccountState.fresh();
        }
        // In place: the heap backend copies what a running checkpoint still needs before it hands it out.
        int hits = AccountState.fold(state, rules, event.occurredAt, event.health, event.risk);
        account.update(state);
        if ((hits & AccountState.HEALTH_HIT) != 0) {
            emit(event, rules.healthId, out);
        }
        if ((hits & AccountState.RISK_HIT) != 0) {
            emit(event, rules.riskId, out);
        }
        counter.add();
    }

    private static void emit(HealthEvent event, String triggerId, Collector<Tuple2<String, byte[]>> out) {
        out.collect(Tuple2.of(event.account, Hits.json(triggerId, event.account, event.partition, event.offset)));
    }
}
