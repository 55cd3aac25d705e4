import java.io.*;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The Java twin of ../../python/loop_producer.py, with the same arguments and log:
 * LoopProducer BOOTSTRAP TOPIC PARTITIONS SECONDS LOG [RATE [FIRST]]
 */
public final class LoopProducer {
    public static void main(String[] args) throws Exception {
        String topic = args[1];
        int partitions = Integer.parseInt(args[2]);
        double seconds = Double.parseDouble(args[3]), rate = args.length > 5 ? Double.parseDouble(args[5]) : 200;
        long first = args.length > 6 ? Long.parseLong(args[6]) : 0, number = first;
        AtomicLong acked = new AtomicLong(), failed = new AtomicLong();
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "enable.idempotence", true, "acks", "all",
            "retries", Integer.MAX_VALUE, "delivery.timeout.ms", Integer.MAX_VALUE, "linger.ms", 5,
            "max.block.ms", Long.MAX_VALUE, "reconnect.backoff.max.ms", 500);
        KafkaProducer<String, String> producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
        try (OutputStream log = Files.newOutputStream(Path.of(args[4]), StandardOpenOption.CREATE, StandardOpenOption.APPEND)) {
            long begin = System.nanoTime();
            for (double elapsed; (elapsed = (System.nanoTime() - begin) / 1e9) < seconds; ) {
                if (number - first > elapsed * rate) {
                    Thread.sleep(2);
                    continue;
                }
                long n = number++;
                int partition = (int) (n % partitions);
                write(log, "send " + n + " " + partition);
                producer.send(new ProducerRecord<>(topic, partition, "" + n, String.format("%-100d", n)), (at, error) -> {
                    (error == null ? acked : failed).incrementAndGet();
                    write(log, error == null ? "ack " + n + " " + partition + " " + at.offset()
                        : "fail " + n + " " + partition + " " + error.getClass().getSimpleName());
                });
            }
            producer.close(Duration.ofSeconds(120));
            String summary = "sent=" + (number - first) + " acked=" + acked + " failed=" + failed;
            write(log, "end " + summary);
            System.out.println(summary);
        }
        System.exit(acked.get() == number - first ? 0 : 1);
    }

    /** Unbuffered: a fact is with the kernel before the next one happens. */
    static void write(OutputStream log, String line) {
        try {
            synchronized (log) {
                log.write((line + "\n").getBytes());
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
