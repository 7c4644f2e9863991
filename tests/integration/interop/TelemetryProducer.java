import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Health events from the committed schema alone: plain Avro behind the five bytes of Confluent's framing. */
public final class TelemetryProducer {
    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        Schema schema = new Schema.Parser().parse(Path.of(arguments[1]).toFile());
        int schemaId = Integer.parseInt(arguments[2]);
        int count = Integer.parseInt(arguments[3]);
        for (int i = 4; i < arguments.length; i++) {
            produce(bootstrap, schema, schemaId, count, arguments[i]);
        }
    }

    private static void produce(String bootstrap, Schema schema, int schemaId, int count, String compression)
            throws Exception {
        String account = "java-" + compression;
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("acks", "all");
        settings.put("compression.type", compression);
        try (KafkaProducer<String, byte[]> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer())) {
            for (int n = 0; n < count; n++) {
                GenericRecord event = new GenericRecordBuilder(schema)
                        .set("event_id", account + "-" + n)
                        .set("account_id", account)
                        .set("occurred_at", System.currentTimeMillis())
                        .set("health_score", 12.0)
                        .set("risk_score", 40.0)
                        .build();
                producer.send(new ProducerRecord<>("telemetry.health", account, framed(event, schema, schemaId))).get();
            }
        }
    }

    private static byte[] framed(GenericRecord event, Schema schema, int schemaId) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream header = new DataOutputStream(bytes);
        header.writeByte(0);
        header.writeInt(schemaId);
        BinaryEncoder encoder = EncoderFactory.get().directBinaryEncoder(bytes, null);
        new GenericDatumWriter<GenericRecord>(schema).write(event, encoder);
        encoder.flush();
        return bytes.toByteArray();
    }
}
