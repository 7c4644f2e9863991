package flink;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** Plain fields one after the other: what crosses the exchange between the source and the keyed operator. */
public final class HealthEventSerializer extends TypeSerializerSingleton<HealthEvent> {
    static final HealthEventSerializer INSTANCE = new HealthEventSerializer();
    private static final long serialVersionUID = 1L;

    @Override
    public void serialize(HealthEvent event, DataOutputView target) throws IOException {
        byte[] account = event.account.getBytes(StandardCharsets.UTF_8);
        target.writeShort(account.length);
        target.write(account);
        target.writeLong(event.occurredAt);
        target.writeDouble(event.health);
        target.writeDouble(event.risk);
        target.writeInt(event.partition);
        target.writeLong(event.offset);
    }

    @Override
    public HealthEvent deserialize(DataInputView source) throws IOException {
        return deserialize(new HealthEvent(), source);
    }

    @Override
    public HealthEvent deserialize(HealthEvent event, DataInputView source) throws IOException {
        byte[] account = new byte[source.readShort()];
        source.readFully(account);
        event.account = new String(account, StandardCharsets.UTF_8);
        event.occurredAt = source.readLong();
        event.health = source.readDouble();
        event.risk = source.readDouble();
        event.partition = source.readInt();
        event.offset = source.readLong();
        return event;
    }

    @Override
    public void copy(DataInputView source, DataOutputView target) throws IOException {
        serialize(deserialize(source), target);
    }

    @Override
    public HealthEvent copy(HealthEvent from) {
        return copy(from, new HealthEvent());
    }

    @Override
    public HealthEvent copy(HealthEvent from, HealthEvent reuse) {
        reuse.copyFrom(from);
        return reuse;
    }

    @Override
    public HealthEvent createInstance() {
        return new HealthEvent();
    }

    @Override
    public boolean isImmutableType() {
        return false;
    }

    @Override
    public int getLength() {
        return -1;
    }

    @Override
    public TypeSerializerSnapshot<HealthEvent> snapshotConfiguration() {
        return new Snapshot();
    }

    /** The format has had one version so far. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<HealthEvent> {
        public Snapshot() {
            super(() -> INSTANCE);
        }
    }
}
