package streams;

import java.util.Map;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.rocksdb.Options;

/** Larger write buffers than Kafka Streams' 16 MB, so that a hot set of accounts is flushed and compacted less often. */
public final class RocksSettings implements RocksDBConfigSetter {
    private static final long WRITE_BUFFER_BYTES = 64L << 20;

    @Override
    public void setConfig(String storeName, Options options, Map<String, Object> configs) {
        options.setWriteBufferSize(WRITE_BUFFER_BYTES);
    }

    @Override
    public void close(String storeName, Options options) {}
}
