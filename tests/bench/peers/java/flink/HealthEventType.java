package flink;

import org.apache.flink.api.common.serialization.SerializerConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.TypeSerializer;

/** Tells Flink to serialize {@link HealthEvent} by its own serializer rather than field by field as a POJO. */
public final class HealthEventType extends TypeInformation<HealthEvent> {
    private static final long serialVersionUID = 1L;
    private static final int FIELDS = 6;

    @Override
    public TypeSerializer<HealthEvent> createSerializer(SerializerConfig config) {
        return HealthEventSerializer.INSTANCE;
    }

    @Override
    public Class<HealthEvent> getTypeClass() {
        return HealthEvent.class;
    }

    @Override
    public boolean isBasicType() {
        return false;
    }

    @Override
    public boolean isTupleType() {
        return false;
    }

    @Override
    public boolean isKeyType() {
        return false;
    }

    @Override
    public int getArity() {
        return FIELDS;
    }

    @Override
    public int getTotalFields() {
        return FIELDS;
    }

    @Override
    public String toString() {
        return "HealthEventType";
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof HealthEventType;
    }

    @Override
    public int hashCode() {
        return HealthEventType.class.hashCode();
    }

    @Override
    public boolean canEqual(Object other) {
        return other instanceof HealthEventType;
    }
}
