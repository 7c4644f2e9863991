package shared;

import java.io.Serializable;

/** The two triggers: average health below a limit with a minimum of samples, and maximum risk above a limit. */
public final class Rules implements Serializable {
    public static final int PANES = 12;
    private static final long serialVersionUID = 1L;

    public final String healthId;
    public final double healthBelow;
    public final long healthPaneMs;
    public final int healthSamplesMin;
    public final long healthCooldownMs;
    public final String riskId;
    public final double riskAbove;
    public final long riskPaneMs;
    public final long riskCooldownMs;

    /** From {@code health=ID,BELOW,WINDOW_MS,SAMPLES_MIN,COOLDOWN_MS} and {@code risk=ID,ABOVE,WINDOW_MS,COOLDOWN_MS}. */
    public Rules(Options options) {
        String[] health = options.text("health").split(",");
        healthId = health[0];
        healthBelow = Double.parseDouble(health[1]);
        healthPaneMs = paneMs(health[2]);
        healthSamplesMin = Integer.parseInt(health[3]);
        healthCooldownMs = Long.parseLong(health[4]);
        String[] risk = options.text("risk").split(",");
        riskId = risk[0];
        riskAbove = Double.parseDouble(risk[1]);
        riskPaneMs = paneMs(risk[2]);
        riskCooldownMs = Long.parseLong(risk[3]);
    }

    private static long paneMs(String windowMs) {
        return (Long.parseLong(windowMs) + PANES - 1) / PANES;
    }
}
