package flink;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ExecutionOptions;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.kafka.clients.producer.ProducerRecord;
import shared.Meter;
import shared.Options;
import shared.Rules;

/**
 * The two rules as a Flink job in one JVM: Kafka source, keyed process function over heap state, Kafka sink, and a
 * checkpoint to a local folder every ten seconds.
 *
 * <p>Arguments: {@code bootstrap topic hits events app checkpoints parallelism exchange=true|false health risk}. With
 * {@code events=0} it works until SIGTERM; else it reads the topic to its end and ends with a last checkpoint. Without
 * the exchange, source and detection are one chained task, which is right for parallelism 1 only.
 */
public final class FlinkPeer {
    private static final Duration CHECKPOINT_EVERY = Duration.ofSeconds(10);
    private static final long BUFFER_TIMEOUT_MS = 5;

    private FlinkPeer() {}

    public static void main(String[] arguments) throws Exception {
        Options options = new Options(arguments);
        long events = options.number("events");
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.createLocalEnvironment(
                (int) options.number("parallelism"), configuration(options));
        DataStream<HealthEvent> telemetry =
                environment.fromSource(source(options), WatermarkStrategy.noWatermarks(), "telemetry");
        keyed(telemetry, options)
                .process(new DetectFunction(new Rules(options)))
                .returns(Types.TUPLE(Types.STRING, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO))
                .sinkTo(sink(options));
        JobClient job = environment.executeAsync("peers");
        if (events == 0) {
            job.getJobExecutionResult().get();
            return;
        }
        Meter meter = new Meter(events);
        meter.watch();
        job.getJobExecutionResult().get(); // ends after the checkpoint that covers the last event
        meter.stop();
    }

    private static Configuration configuration(Options options) {
        Configuration configuration = new Configuration();
        configuration.set(PipelineOptions.OBJECT_REUSE, true);
        configuration.set(ExecutionOptions.BUFFER_TIMEOUT, Duration.ofMillis(BUFFER_TIMEOUT_MS));
        configuration.set(StateBackendOptions.STATE_BACKEND, "hashmap");
        configuration.set(CheckpointingOptions.CHECKPOINTING_INTERVAL, CHECKPOINT_EVERY);
        configuration.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
        configuration.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, "file://" + options.text("checkpoints"));
        configuration.set(TaskManagerOptions.MANAGED_MEMORY_SIZE, MemorySize.ZERO);
        return configuration;
    }

    private static KafkaSource<HealthEvent> source(Options options) {
        KafkaSourceBuilder<HealthEvent> builder = KafkaSource.<HealthEvent>builder()
                .setBootstrapServers(options.text("bootstrap"))
                .setTopics(options.text("topic"))
                .setGroupId(options.text("app"))
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setDeserializer(new HealthEventDeserializer())
                .setProperty("partition.discovery.interval.ms", "-1")
                .setProperty("max.poll.records", "10000")
                .setProperty("max.partition.fetch.bytes", "4194304");
        return options.number("events") == 0 ? builder.build() : builder.setBounded(OffsetsInitializer.latest()).build();
    }

    private static KeyedStream<HealthEvent, String> keyed(DataStream<HealthEvent> telemetry, Options options) {
        return Boolean.parseBoolean(options.text("exchange"))
                ? telemetry.keyBy(event -> event.account, Types.STRING)
                : DataStreamUtils.reinterpretAsKeyedStream(telemetry, event -> event.account, Types.STRING);
    }

    private static KafkaSink<Tuple2<String, byte[]>> sink(Options options) {
        String topic = options.text("hits");
        Properties producer = new Properties();
        producer.put("linger.ms", "5");
        producer.put("compression.type", "lz4");
        KafkaRecordSerializationSchema<Tuple2<String, byte[]>> serializer = (hit, context, timestamp) ->
                new ProducerRecord<>(topic, hit.f0.getBytes(StandardCharsets.UTF_8), hit.f1);
        return KafkaSink.<Tuple2<String, byte[]>>builder()
                .setBootstrapServers(options.text("bootstrap"))
                .setKafkaProducerConfig(producer)
                .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
                .setRecordSerializer(serializer)
                .build();
    }
}
