package shared;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/**
 * The three fields of an Avro HealthEvent in Confluent's framing that the rules read. Decodes in place: nothing is
 * allocated, and strings are skipped by their length. One reader per thread.
 */
public final class HealthReader {
    private static final VarHandle DOUBLE =
            MethodHandles.byteArrayViewVarHandle(double[].class, ByteOrder.LITTLE_ENDIAN);
    private static final int FRAME_BYTES = 5;

    public long occurredAt;
    public double health;
    public double risk;
    private int at;

    public void read(byte[] value) {
        if (value[0] != 0) {
            throw new IllegalArgumentException("not Confluent's framing: first byte " + value[0]);
        }
        at = FRAME_BYTES;
        skipText(value); // event_id
        skipText(value); // account_id: the key says it too
        occurredAt = readLong(value);
        health = (double) DOUBLE.get(value, at);
        risk = (double) DOUBLE.get(value, at + Double.BYTES);
    }

    private void skipText(byte[] value) {
        int length = (int) readLong(value); // moves `at`, so it must not stand in the sum
        at += length;
    }

    private long readLong(byte[] value) {
        long raw = 0;
        int next = at;
        for (int shift = 0; ; shift += 7) {
            byte part = value[next++];
            raw |= (long) (part & 0x7F) << shift;
            if (part >= 0) {
                break;
            }
        }
        at = next;
        return (raw >>> 1) ^ -(raw & 1);
    }
}
