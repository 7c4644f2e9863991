package shared;

import java.nio.charset.StandardCharsets;

/** What a hit looks like in every peer's topic: JSON with the trigger and the place of the event that fired it. */
public final class Hits {
    private Hits() {}

    public static byte[] json(String triggerId, String account, int partition, long offset) {
        String text = "{\"trigger_id\":\"" + triggerId + "\",\"account_id\":\"" + account + "\",\"partition\":" + partition
                + ",\"offset\":" + offset + "}";
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
