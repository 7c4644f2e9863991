package flink;

import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import shared.HealthReader;

/** Reads a record's fields into one event that is reused: object reuse is on, and nothing downstream keeps it. */
final class HealthEventDeserializer implements KafkaRecordDeserializationSchema<HealthEvent> {
    private static final long serialVersionUID = 1L;
    private transient HealthReader reader;
    private transient HealthEvent event;

    @Override
    public void open(DeserializationSchema.InitializationContext context) {
        reader = new HealthReader();
        event = new HealthEvent();
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<HealthEvent> out) {
        reader.read(record.value());
        event.account = new String(record.key(), StandardCharsets.UTF_8);
        event.occurredAt = reader.occurredAt;
        event.health = reader.health;
        event.risk = reader.risk;
        event.partition = record.partition();
        event.offset = record.offset();
        out.collect(event);
    }

    @Override
    public TypeInformation<HealthEvent> getProducedType() {
        return new HealthEventType();
    }
}
