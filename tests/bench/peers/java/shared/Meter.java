package shared;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicLongArray;

/**
 * CPU (all threads of this process, user and system) and wall time from the first event to the durable end, and from
 * half of the events on. Every processor counts on a counter of its own, and one thread looks at their sum every few
 * milliseconds, so that the hot path shares nothing.
 */
public final class Meter {
    private static final List<Counter> COUNTERS = new CopyOnWriteArrayList<>();
    private static final long POLL_MS = 5;
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private final long total;
    private volatile Mark first;
    private volatile Mark half;

    public Meter(long total) {
        this.total = total;
    }

    /** How many events one processor has seen; written by one thread. */
    public static final class Counter {
        private static final int OWN_CACHE_LINE = 16;
        private final AtomicLongArray cells = new AtomicLongArray(2 * OWN_CACHE_LINE);
        private long seen;

        public Counter() {
            COUNTERS.add(this);
        }

        public void add() {
            cells.lazySet(OWN_CACHE_LINE, ++seen);
        }
    }

    private record Mark(long events, long wallNs, long cpuNs) {
        static Mark now(long events) {
            return new Mark(events, System.nanoTime(), SYSTEM.getProcessCpuTime());
        }
    }

    /** Block until all events were seen, and mark the first and the middle on the way. */
    public void watch() throws InterruptedException {
        for (long seen = 0; seen < total; Thread.sleep(POLL_MS)) {
            seen = COUNTERS.stream().mapToLong(counter -> counter.cells.get(Counter.OWN_CACHE_LINE)).sum();
            if (first == null && seen > 0) {
                first = Mark.now(seen);
            }
            if (half == null && seen >= total / 2) {
                half = Mark.now(seen);
            }
        }
    }

    /** Print the reading as one line of JSON; call it when everything that was done is durable. */
    public void stop() throws IOException {
        Mark end = Mark.now(total);
        System.out.printf(
                Locale.ROOT,
                "{\"events\":%d,\"wall_s\":%.3f,\"cpu_s\":%.3f,\"peak_rss_mb\":%.1f,"
                        + "\"warm_events\":%d,\"warm_wall_s\":%.3f,\"warm_cpu_s\":%.3f}%n",
                total, // the first few milliseconds of them came before the first mark: that flatters the peer
                (end.wallNs - first.wallNs) / 1e9,
                (end.cpuNs - first.cpuNs) / 1e9,
                peakRssMb(),
                end.events - half.events,
                (end.wallNs - half.wallNs) / 1e9,
                (end.cpuNs - half.cpuNs) / 1e9);
        System.out.flush();
    }

    private static double peakRssMb() throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("\\D", "")) / 1024.0;
            }
        }
        throw new IOException("/proc/self/status has no VmHWM");
    }
}
