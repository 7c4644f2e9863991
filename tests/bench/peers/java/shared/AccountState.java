package shared;

import static shared.Rules.PANES;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/**
 * One account's windows and cooldowns of both rules, in one byte array: what a store keeps is what is computed on.
 *
 * <p>Layout: newest pane of health, of risk; end of health's cooldown, of risk's; twelve sums; twelve maxima (long and
 * double, 8 bytes each); twelve counts (4 bytes each). A pane's place is its number modulo twelve. A pane without
 * samples holds what folding leaves alone: 0 and minus infinity.
 */
public final class AccountState {
    public static final int HEALTH_HIT = 1;
    public static final int RISK_HIT = 2;

    private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle DOUBLE =
            MethodHandles.byteArrayViewVarHandle(double[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
    private static final int HEALTH_NEWEST = 0;
    private static final int RISK_NEWEST = 8;
    private static final int HEALTH_UNTIL = 16;
    private static final int RISK_UNTIL = 24;
    private static final int SUMS = 32;
    private static final int MAXIMA = SUMS + 8 * PANES;
    private static final int COUNTS = MAXIMA + 8 * PANES;
    private static final int BYTES = COUNTS + 4 * PANES;
    private static final long NEVER = Long.MIN_VALUE / 2;

    private AccountState() {}

    /** The state of an account without any event. */
    public static byte[] fresh() {
        byte[] state = new byte[BYTES];
        LONG.set(state, HEALTH_NEWEST, NEVER);
        LONG.set(state, RISK_NEWEST, NEVER);
        LONG.set(state, HEALTH_UNTIL, NEVER);
        LONG.set(state, RISK_UNTIL, NEVER);
        for (int place = 0; place < PANES; place++) {
            DOUBLE.set(state, MAXIMA + 8 * place, Double.NEGATIVE_INFINITY);
        }
        return state;
    }

    /** Take one event into {@code state}, in place; returns which rules fire: HEALTH_HIT and RISK_HIT, or-ed. */
    public static int fold(byte[] state, Rules rules, long atMs, double health, double risk) {
        int hits = 0;
        if (foldHealth(state, rules, atMs, health) && starts(state, HEALTH_UNTIL, atMs, rules.healthCooldownMs)) {
            hits |= HEALTH_HIT;
        }
        if (foldRisk(state, rules, atMs, risk) && starts(state, RISK_UNTIL, atMs, rules.riskCooldownMs)) {
            hits |= RISK_HIT;
        }
        return hits;
    }

    private static boolean foldHealth(byte[] state, Rules rules, long atMs, double value) {
        long pane = Math.floorDiv(atMs, rules.healthPaneMs);
        long newest = (long) LONG.get(state, HEALTH_NEWEST);
        if (pane <= newest - PANES) {
            return false;
        }
        if (pane > newest) {
            for (long opened = Math.max(newest + 1, pane - PANES + 1); opened <= pane; opened++) {
                int place = (int) Math.floorMod(opened, (long) PANES);
                DOUBLE.set(state, SUMS + 8 * place, 0.0);
                INT.set(state, COUNTS + 4 * place, 0);
            }
            LONG.set(state, HEALTH_NEWEST, newest = pane);
        }
        int own = (int) Math.floorMod(pane, (long) PANES);
        DOUBLE.set(state, SUMS + 8 * own, (double) DOUBLE.get(state, SUMS + 8 * own) + value);
        INT.set(state, COUNTS + 4 * own, (int) INT.get(state, COUNTS + 4 * own) + 1);
        int samples = 0;
        double total = 0.0;
        int place = (int) Math.floorMod(newest + 1, (long) PANES); // the oldest pane's
        for (int n = 0; n < PANES; n++) {
            samples += (int) INT.get(state, COUNTS + 4 * place);
            total += (double) DOUBLE.get(state, SUMS + 8 * place);
            place = place + 1 == PANES ? 0 : place + 1;
        }
        return samples >= rules.healthSamplesMin && total / samples < rules.healthBelow;
    }

    private static boolean foldRisk(byte[] state, Rules rules, long atMs, double value) {
        long pane = Math.floorDiv(atMs, rules.riskPaneMs);
        long newest = (long) LONG.get(state, RISK_NEWEST);
        if (pane <= newest - PANES) {
            return false;
        }
        if (pane > newest) {
            for (long opened = Math.max(newest + 1, pane - PANES + 1); opened <= pane; opened++) {
                int place = (int) Math.floorMod(opened, (long) PANES);
                DOUBLE.set(state, MAXIMA + 8 * place, Double.NEGATIVE_INFINITY);
            }
            LONG.set(state, RISK_NEWEST, pane);
        }
        int own = MAXIMA + 8 * (int) Math.floorMod(pane, (long) PANES);
        if (value > (double) DOUBLE.get(state, own)) {
            DOUBLE.set(state, own, value);
        }
        double worst = Double.NEGATIVE_INFINITY;
        for (int place = 0; place < PANES; place++) {
            worst = Math.max(worst, (double) DOUBLE.get(state, MAXIMA + 8 * place));
        }
        return worst > rules.riskAbove;
    }

    /** Whether no cooldown holds at {@code atMs}; then one starts. */
    private static boolean starts(byte[] state, int untilAt, long atMs, long cooldownMs) {
        if (atMs < (long) LONG.get(state, untilAt)) {
            return false;
        }
        LONG.set(state, untilAt, atMs + cooldownMs);
        return true;
    }
}
