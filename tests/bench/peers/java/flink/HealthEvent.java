package flink;

/** What the rules need of one event, and where it stood in the log. Reused by the source: copy what you keep. */
public final class HealthEvent {
    public String account;
    public long occurredAt;
    public double health;
    public double risk;
    public int partition;
    public long offset;

    public void copyFrom(HealthEvent other) {
        account = other.account;
        occurredAt = other.occurredAt;
        health = other.health;
        risk = other.risk;
        partition = other.partition;
        offset = other.offset;
    }
}
