import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * One producer and a consumer at each of several replicas in one process, so that one clock times
 * all: PRODUCE_BOOTSTRAP TOPIC SECONDS RATE PATH=BOOTSTRAP…
 *
 * <p>Prints a line of name=value for each path; tail.go says what they mean.
 */
public final class TailBench {
    private static final long RUN = System.nanoTime();
    private static final int MOST = 1 << 17;

    /** By the record's number: when it was sent and when acked; 0 for not yet. */
    private final long[] sent = new long[MOST];
    private final long[] acked = new long[MOST];
    private final AtomicInteger errors = new AtomicInteger();
    private volatile int records;
    private volatile boolean ended;

    /** A consumer in a group of its own, by the record's number when it had it. */
    private static final class Reader extends Thread {
        final String path;
        final ConcurrentHashMap<Integer, Long> received = new ConcurrentHashMap<>();
        private final KafkaConsumer<byte[], byte[]> consumer;

        Reader(String path, String bootstrap, String topic) {
            this.path = path;
            var settings = new Properties();
            settings.put("bootstrap.servers", bootstrap);
            settings.put("group.id", "tail-" + RUN + "-" + path);
            consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            consumer.subscribe(List.of(topic));
            setDaemon(true);
        }

        @Override
        public void run() {
            while (true) {
                var polled = consumer.poll(Duration.ofSeconds(1));
                long now = System.nanoTime();
                for (ConsumerRecord<byte[], byte[]> record : polled) {
                    var stamp = ByteBuffer.wrap(record.value());
                    if (stamp.getLong() == RUN) {
                        received.putIfAbsent((int) stamp.getLong(), now);
                    }
                }
            }
        }
    }

    private void produce(String bootstrap, String topic, int rate) throws InterruptedException {
        var settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        var value = new byte[1024];
        var noise = new Random();
        long start = System.nanoTime();
        for (int n = 0; !ended && n < MOST; n++) {
            long due = start + n * 1_000_000_000L / rate - System.nanoTime();
            if (due > 0) {
                Thread.sleep(due / 1_000_000, (int) (due % 1_000_000));
            }
            noise.nextBytes(value);
            ByteBuffer.wrap(value).putLong(RUN).putLong(n);
            int number = n;
            sent[n] = System.nanoTime();
            producer.send(new ProducerRecord<>(topic, value.clone()), (meta, error) -> {
                if (error == null) {
                    acked[number] = System.nanoTime();
                } else {
                    errors.incrementAndGet();
                }
            });
            records = n + 1;
        }
        producer.close(Duration.ofSeconds(15));
    }

    private static double quantile(long[] of, int count, double share) {
        Arrays.sort(of, 0, count);
        return count == 0 ? Double.NaN : of[(int) (share * (count - 1))] / 1e6;
    }

    private void print(Reader reader, long begin, long end) {
        var acks = new long[records];
        var ends = new long[records];
        var afters = new long[records];
        int all = 0;
        int got = 0;
        for (int n = 0; n < records; n++) {
            if (sent[n] < begin || sent[n] >= end || acked[n] == 0) {
                continue;
            }
            acks[all++] = acked[n] - sent[n];
            Long at = reader.received.get(n);
            if (at != null) {
                ends[got] = at - sent[n];
                afters[got++] = at - acked[n];
            }
        }
        System.out.printf("path=%s ack_p50=%.1f ack_p99=%.1f e2e_p50=%.1f e2e_p99=%.1f after_p50=%.1f after_p99=%.1f errors=%d%n",
            reader.path, quantile(acks, all, .5), quantile(acks, all, .99), quantile(ends, got, .5),
            quantile(ends, got, .99), quantile(afters, got, .5), quantile(afters, got, .99), errors.get() + all - got);
    }

    private static void await(Reader reader, int number, long limit) throws InterruptedException {
        while (System.nanoTime() < limit
            && (number < 0 ? reader.received.isEmpty() : !reader.received.containsKey(number))) {
            Thread.sleep(20);
        }
    }

    public static void main(String[] args) throws Exception {
        var bench = new TailBench();
        var readers = new ArrayList<Reader>();
        for (String path : Arrays.copyOfRange(args, 4, args.length)) {
            int cut = path.indexOf('=');
            readers.add(new Reader(path.substring(0, cut), path.substring(cut + 1), args[1]));
        }
        readers.forEach(Thread::start);
        var producing = new Thread(() -> {
            try {
                bench.produce(args[0], args[1], Integer.parseInt(args[3]));
            } catch (InterruptedException never) {
                throw new IllegalStateException(never);
            }
        });
        producing.start();
        for (Reader reader : readers) {
            await(reader, -1, System.nanoTime() + 40_000_000_000L);
        }
        // The JVM compiles what it runs meanwhile.
        Thread.sleep(4000);
        long begin = System.nanoTime();
        Thread.sleep(Long.parseLong(args[2]) * 1000);
        long end = System.nanoTime();
        bench.ended = true;
        producing.join();
        for (Reader reader : readers) {
            await(reader, bench.records - 1, System.nanoTime() + 10_000_000_000L);
            bench.print(reader, begin, end);
        }
        System.exit(0);
    }
}
