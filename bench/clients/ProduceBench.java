import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * One producer with its default settings sends records of 1 KiB: BOOTSTRAP TOPIC SECONDS.
 *
 * <p>After a warm-up of 2 s it produces as fast as it can for SECONDS, then, as a new producer, 1,000
 * records a second for half as long. Prints MB/s, p50 and p99 at full speed, p50 and p99 at the slow
 * pace (milliseconds from send to ack) and the number of errors. Only what is acknowledged inside its
 * window counts: a full buffer that is never acknowledged is no throughput.
 */
public final class ProduceBench {
    private static final byte[] NOISE = new byte[1 << 20];

    private boolean open = true;
    private long[] latencies = new long[1 << 16];
    private int acked;
    private int errors;

    /** 1 KiB that no compression makes smaller. */
    private static byte[] value(long n) {
        int at = (int) (n * 1021 % (NOISE.length - 1024));
        return Arrays.copyOfRange(NOISE, at, at + 1024);
    }

    private synchronized void ack(long sent, Exception error) {
        if (!open) {
            return;
        }
        if (error != null) {
            errors++;
            return;
        }
        if (acked == latencies.length) {
            latencies = Arrays.copyOf(latencies, acked * 2);
        }
        latencies[acked++] = System.nanoTime() - sent;
    }

    private synchronized void shut() {
        open = false;
        Arrays.sort(latencies, 0, acked);
    }

    private double percentile(double p) {
        return acked == 0 ? -1 : latencies[(int) (p * (acked - 1))] / 1e6;
    }

    /** Produces for a while, at a rate or (0) as fast as the client takes it. */
    private static ProduceBench run(String bootstrap, String topic, int seconds, int rate) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        var window = new ProduceBench();
        long start = System.nanoTime();
        long end = start + seconds * 1_000_000_000L;
        var sender = new Thread(() -> {
            try {
                for (long n = 0; System.nanoTime() < end; n++) {
                    if (rate > 0 && n % (rate / 100) == 0) {
                        long due = start + n * 1_000_000_000L / rate;
                        Thread.sleep(Math.max(0, (due - System.nanoTime()) / 1_000_000));
                    }
                    long sent = System.nanoTime();
                    producer.send(new ProducerRecord<>(topic, value(n)), (meta, error) -> window.ack(sent, error));
                }
            } catch (RuntimeException | InterruptedException closed) {
                // The window is over while send() waits for room in the buffer.
            }
        });
        sender.setDaemon(true);
        sender.start();
        sender.join(seconds * 1000L);
        window.shut();
        producer.close(Duration.ZERO);
        return window;
    }

    /** The leader's metrics by name; requests to others (metadata) are not looked at. */
    private static Map<String, Double> leader(KafkaProducer<?, ?> producer) {
        var nodes = new HashMap<String, Map<String, Double>>();
        producer.metrics().forEach((name, metric) -> {
            if (name.group().equals("producer-node-metrics") && metric.metricValue() instanceof Double value) {
                nodes.computeIfAbsent(name.tags().get("node-id"), node -> new HashMap<>()).put(name.name(), value);
            }
        });
        return Collections.max(nodes.values(), Comparator.comparing(node -> node.get("outgoing-byte-total")));
    }

    /** Full speed on one connection: how many requests of which size were under way for how long. */
    private static void pipeline(String bootstrap, String topic, int seconds) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        // Changes what the averages look back on, nothing else: two samples that fit into SECONDS.
        settings.put("metrics.sample.window.ms", seconds * 500);
        var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        var sender = new Thread(() -> {
            for (long n = 0;; n++) {
                producer.send(new ProducerRecord<>(topic, value(n)));
            }
        });
        sender.setDaemon(true);
        sender.start();
        Thread.sleep(3000);
        Map<String, Double> before = leader(producer);
        Thread.sleep(seconds * 1000L);
        Map<String, Double> after = leader(producer);
        double bytes = after.get("outgoing-byte-total") - before.get("outgoing-byte-total");
        double requests = after.get("request-total") - before.get("request-total");
        System.out.printf("wire_mbs=%.3f in_flight=%d request_bytes=%.0f rtt_ms=%.2f%n", bytes / 1e6 / seconds,
            new ProducerConfig(withSerializers(settings)).getInt(ProducerConfig.MAX_IN_FLIGHT_REQUESTS_PER_CONNECTION),
            bytes / requests, after.get("request-latency-avg"));
    }

    private static Properties withSerializers(Properties settings) {
        settings.put("key.serializer", ByteArraySerializer.class);
        settings.put("value.serializer", ByteArraySerializer.class);
        return settings;
    }

    public static void main(String[] args) throws Exception {
        new Random().nextBytes(NOISE);
        if (args[0].equals("pipeline")) {
            pipeline(args[1], args[2], Integer.parseInt(args[3]));
            System.exit(0);
        }
        if (args[0].equals("paced")) {
            int rate = Integer.parseInt(args[4]);
            run(args[1], args[2], 3, rate);
            ProduceBench paced = run(args[1], args[2], Integer.parseInt(args[3]), rate);
            System.out.printf("p50=%.1f p99=%.1f p999=%.1f errors=%d%n", paced.percentile(0.5),
                paced.percentile(0.99), paced.percentile(0.999), paced.errors);
            System.exit(0);
        }
        int seconds = Integer.parseInt(args[2]);
        run(args[0], args[1], 2, 0);
        ProduceBench full = run(args[0], args[1], seconds, 0);
        ProduceBench paced = run(args[0], args[1], (seconds + 1) / 2, 1000);
        System.out.printf("%.2f %.1f %.1f %.1f %.1f %d%n", full.acked * 1024 / 1e6 / seconds,
            full.percentile(.5), full.percentile(.99), paced.percentile(.5), paced.percentile(.99),
            full.errors + paced.errors);
        System.exit(0);
    }
}
