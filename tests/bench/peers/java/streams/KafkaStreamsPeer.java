package streams;

import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import shared.Meter;
import shared.Options;
import shared.Rules;

/**
 * The two rules as a Kafka Streams topology of the Processor API: one state value per account, changelog on.
 *
 * <p>Arguments: {@code bootstrap topic hits events app state-dir store=rocksdb|memory cache-bytes threads health
 * risk}. With {@code events=0} it works until SIGTERM.
 */
public final class KafkaStreamsPeer {
    private static final String STORE = "accounts";

    private KafkaStreamsPeer() {}

    public static void main(String[] arguments) throws Exception {
        Options options = new Options(arguments);
        long events = options.number("events");
        KafkaStreams streams = new KafkaStreams(topology(options), settings(options));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.start();
        if (events == 0) {
            Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
            new CountDownLatch(1).await();
        }
        Meter meter = new Meter(events);
        meter.watch();
        // Commits: hits and changelog acknowledged, stores flushed, offsets committed.
        if (!streams.close(Duration.ofMinutes(1))) {
            throw new IllegalStateException("Kafka Streams did not close within a minute");
        }
        meter.stop();
    }

    private static Topology topology(Options options) {
        Rules rules = new Rules(options);
        Topology topology = new Topology();
        topology.addSource("telemetry", new StringDeserializer(), new ByteArrayDeserializer(), options.text("topic"));
        topology.addProcessor("detect", () -> new DetectProcessor(rules, STORE), "telemetry");
        topology.addStateStore(store(options), "detect");
        topology.addSink("hits", options.text("hits"), new StringSerializer(), new ByteArraySerializer(), "detect");
        return topology;
    }

    private static StoreBuilder<KeyValueStore<String, byte[]>> store(Options options) {
        KeyValueBytesStoreSupplier supplier =
                switch (options.text("store")) {
                    case "rocksdb" -> Stores.persistentKeyValueStore(STORE);
                    case "memory" -> Stores.inMemoryKeyValueStore(STORE);
                    default -> throw new IllegalArgumentException("store is rocksdb or memory: " + options.text("store"));
                };
        var builder = Stores.keyValueStoreBuilder(supplier, Serdes.String(), Serdes.ByteArray());
        return options.number("cache-bytes") > 0 ? builder.withCachingEnabled() : builder.withCachingDisabled();
    }

    private static Properties settings(Options options) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, options.text("app"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.text("bootstrap"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, options.text("state-dir"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, options.number("threads") + "");
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, options.text("cache-bytes"));
        settings.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, RocksSettings.class);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, "20000");
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), "10000");
        settings.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), "4194304");
        settings.put(StreamsConfig.producerPrefix("compression.type"), "lz4");
        settings.put(StreamsConfig.producerPrefix("batch.size"), "262144");
        settings.put(StreamsConfig.producerPrefix("buffer.memory"), "134217728");
        settings.put(StreamsConfig.producerPrefix("linger.ms"), "10");
        return settings;
    }
}
