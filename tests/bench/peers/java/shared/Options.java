package shared;

import java.util.HashMap;
import java.util.Map;

/** Arguments of the form {@code name=value}; a missing one is an error that names it. */
public final class Options {
    private final Map<String, String> values = new HashMap<>();

    public Options(String[] arguments) {
        for (String argument : arguments) {
            int equals = argument.indexOf('=');
            if (equals < 1) {
                throw new IllegalArgumentException("expected name=value, got '" + argument + "'");
            }
            values.put(argument.substring(0, equals), argument.substring(equals + 1));
        }
    }

    public String text(String name) {
        String value = values.get(name);
        if (value == null) {
            throw new IllegalArgumentException("the argument " + name + "=... is missing; given: " + values.keySet());
        }
        return value;
    }

    public long number(String name) {
        return Long.parseLong(text(name));
    }
}
