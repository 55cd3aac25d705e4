import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

/**
 * Kafka Streams counts the words of the diskless topic into the classic one: WordCount BOOTSTRAP RUN DISKLESS CLASSIC.
 * Its repartition and changelog topics are the application's own. In the middle it is stopped and started anew with
 * an empty state directory, so that it must resume from its commits and restore its store from the changelog.
 */
public final class WordCount {
    static final String[] LINES = {"the quick brown fox", "jumps over the lazy dog", "the end", "of the fox", "žluť of the fox"};
    static final int ROUNDS = 40;

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], application = args[1] + "-streams", words = args[2], counts = args[3];
        Map<String, Long> expected = new TreeMap<>();
        Set<String> internal = new TreeSet<>();
        // Produced between two runs and during the second: nothing may be counted twice after an orderly stop.
        produce(bootstrap, words, expected);
        try (KafkaStreams streams = start(bootstrap, application, words, counts)) {
            await(bootstrap, counts, expected, "first run");
        }
        produce(bootstrap, words, expected);
        try (KafkaStreams streams = start(bootstrap, application, words, counts)) {
            produce(bootstrap, words, expected);
            await(bootstrap, counts, expected, "second run");
        }
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            for (String topic : admin.listTopics().names().get())
                if (topic.startsWith(application + "-")) internal.add(topic);
            for (String topic : internal) System.out.println("streams internal topic " + topic.substring(application.length() + 1));
            Map<TopicPartition, OffsetAndMetadata> committed =
                admin.listConsumerGroupOffsets(application).partitionsToOffsetAndMetadata().get();
            for (int p = 0; p < 3; p++)
                System.out.println("streams committed diskless p" + p + " " + committed.get(new TopicPartition(words, p)).offset());
            admin.deleteTopics(internal).all().get();
        }
    }

    static void produce(String bootstrap, String topic, Map<String, Long> expected) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "compression.type", "lz4");
        try (Producer<byte[], String> producer = new KafkaProducer<>(config, new ByteArraySerializer(), new StringSerializer())) {
            for (int i = 0; i < ROUNDS; i++)
                for (int line = 0; line < LINES.length; line++) {
                    producer.send(new ProducerRecord<>(topic, line % 3, null, LINES[line]));
                    for (String word : LINES[line].split(" ")) expected.merge(word, 1L, Long::sum);
                }
        }
    }

    static KafkaStreams start(String bootstrap, String application, String words, String counts) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("application.id", application);
        config.put("processing.guarantee", "at_least_once");
        config.put("commit.interval.ms", 200);
        config.put("state.dir", Files.createTempDirectory("odradek-streams").toString());
        config.put("auto.offset.reset", "earliest");
        config.put("num.stream.threads", 1);
        config.put("session.timeout.ms", 10_000);
        config.put("default.key.serde", Serdes.StringSerde.class);
        config.put("default.value.serde", Serdes.StringSerde.class);
        StreamsBuilder builder = new StreamsBuilder();
        builder.<byte[], String>stream(words, Consumed.with(Serdes.ByteArray(), Serdes.String()))
            .flatMapValues(line -> List.of(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.as("words"))
            .count(Named.as("count"), Materialized.as("counts"))
            .toStream()
            .to(counts, Produced.with(Serdes.String(), Serdes.Long()));
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setUncaughtExceptionHandler(e -> {
            e.printStackTrace();
            Runtime.getRuntime().halt(2);
            return null;
        });
        streams.start();
        return streams;
    }

    /** Reads the classic topic until the last count of every word is the expected one; how many updates it took varies. */
    static void await(String bootstrap, String counts, Map<String, Long> expected, String label) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "enable.auto.commit", false);
        try (KafkaConsumer<String, Long> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new LongDeserializer())) {
            List<TopicPartition> partitions = List.of(new TopicPartition(counts, 0), new TopicPartition(counts, 1), new TopicPartition(counts, 2));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<String, Long> last = new TreeMap<>();
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            while (!last.equals(expected)) {
                if (System.nanoTime() > deadline) throw new IllegalStateException(label + ": have " + last + ", expected " + expected);
                for (ConsumerRecord<String, Long> r : consumer.poll(Duration.ofMillis(200))) last.put(r.key(), r.value());
            }
            last.forEach((word, count) -> System.out.println("streams " + label + " " + word + "=" + count));
        }
    }
}
