import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;

/** A group member that polls on its own thread, so that two of them can rebalance against each other. */
final class Member implements Runnable {
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final BlockingQueue<FutureTask<Void>> commands = new LinkedBlockingQueue<>();
    private final List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
    private final Thread thread = new Thread(this);
    private volatile Set<TopicPartition> assignment = Set.of();
    private volatile boolean stopping;
    private volatile Exception failure;

    Member(KafkaConsumer<byte[], byte[]> consumer, Collection<String> topics) {
        this.consumer = consumer;
        consumer.subscribe(topics);
        thread.setDaemon(true);
        thread.start();
    }

    @Override
    public void run() {
        try (consumer) {
            while (!stopping) {
                ConsumerRecords<byte[], byte[]> batch = consumer.poll(Duration.ofMillis(100));
                synchronized (got) {
                    batch.forEach(got::add);
                }
                assignment = Set.copyOf(consumer.assignment());
                for (FutureTask<Void> task; (task = commands.poll()) != null; ) task.run();
            }
        } catch (Exception e) {
            failure = e;
        }
    }

    Set<TopicPartition> assignment() {
        return assignment;
    }

    /** Records polled since the last call. */
    List<ConsumerRecord<byte[], byte[]>> take() {
        if (failure != null) throw new IllegalStateException("group member died", failure);
        synchronized (got) {
            List<ConsumerRecord<byte[], byte[]>> taken = List.copyOf(got);
            got.clear();
            return taken;
        }
    }

    void commit() throws Exception {
        FutureTask<Void> task = new FutureTask<>(() -> { consumer.commitSync(); return null; });
        commands.add(task);
        task.get(30, TimeUnit.SECONDS);
    }

    void close() throws Exception {
        stopping = true;
        thread.join(30_000);
        if (thread.isAlive()) throw new IllegalStateException("member does not close");
        if (failure != null) throw failure;
    }
}
