import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.*;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.*;

/** The script of README.md for the Java clients: Script BOOTSTRAP RUN DISKLESS CLASSIC; env GROUP_PROTOCOL. */
public final class Script {
    static final int PARTITIONS = 3;
    static final long FIRST_TIMESTAMP = 1_000_000, TIMESTAMP_STEP = 10;
    static final List<String> KINDS = List.of("diskless", "classic");
    static final String MAX_REQUEST = "3000000";

    final String bootstrap, run, protocol;
    final Map<String, String> names = new LinkedHashMap<>();
    final Map<TopicPartition, String> labels = new LinkedHashMap<>();
    /** The next offset of every partition: the program is the only writer, so it knows. */
    final Map<TopicPartition, Long> next = new LinkedHashMap<>();
    final Admin admin;

    Script(String[] args) {
        bootstrap = args[0];
        run = args[1];
        names.put("diskless", args[2]);
        names.put("classic", args[3]);
        protocol = System.getenv().getOrDefault("GROUP_PROTOCOL", "");
        for (String kind : KINDS)
            for (int p = 0; p < PARTITIONS; p++) {
                TopicPartition at = new TopicPartition(names.get(kind), p);
                labels.put(at, kind + " p" + p);
                next.put(at, 0L);
            }
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    public static void main(String[] args) throws Exception {
        Script script = new Script(args);
        script.codecs();
        script.acks();
        script.shapes();
        script.large();
        script.offsets();
        script.read("read_uncommitted");
        script.read("read_committed");
        script.seek();
        script.group();
        script.admin();
        script.admin.close();
    }

    static void say(String format, Object... args) {
        System.out.println(String.format(Locale.ROOT, format, args));
    }

    // ---- producing

    KafkaProducer<byte[], byte[]> producer(boolean idempotent, String acks, String codec) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("enable.idempotence", idempotent);
        config.put("acks", acks);
        config.put("compression.type", codec);
        config.put("linger.ms", 5);
        config.put("max.request.size", MAX_REQUEST);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static byte[] bytes(String s) {
        return s == null ? null : s.getBytes(StandardCharsets.UTF_8);
    }

    ProducerRecord<byte[], byte[]> record(TopicPartition at, long n, byte[] key, byte[] value) {
        return new ProducerRecord<>(at.topic(), at.partition(), FIRST_TIMESTAMP + TIMESTAMP_STEP * n, key, value);
    }

    /** One numbered record; its number is the offset it must get. */
    Future<RecordMetadata> sendNext(Producer<byte[], byte[]> producer, TopicPartition at) {
        long n = next.merge(at, 1L, Long::sum) - 1;
        return producer.send(record(at, n, bytes("k" + n), bytes(labels.get(at) + " n" + n)));
    }

    /** `count` records to every partition, both topics mixed; returns the offsets acknowledged. */
    Map<TopicPartition, List<Long>> fill(Producer<byte[], byte[]> producer, int count) throws Exception {
        Map<TopicPartition, List<Future<RecordMetadata>>> sent = new LinkedHashMap<>();
        for (int i = 0; i < count; i++)
            for (TopicPartition at : next.keySet())
                sent.computeIfAbsent(at, k -> new ArrayList<>()).add(sendNext(producer, at));
        producer.flush();
        Map<TopicPartition, List<Long>> offsets = new LinkedHashMap<>();
        for (TopicPartition at : sent.keySet()) {
            offsets.put(at, new ArrayList<>());
            for (Future<RecordMetadata> one : sent.get(at)) offsets.get(at).add(one.get().offset());
        }
        return offsets;
    }

    static String run(List<Long> offsets, long expectedFirst) {
        for (int i = 0; i < offsets.size(); i++)
            if (offsets.get(i) != expectedFirst + i) return offsets + " WRONG";
        return offsets.get(0) + ".." + offsets.get(offsets.size() - 1) + " ok";
    }

    void codecs() throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            Map<TopicPartition, Long> first = new HashMap<>(next);
            try (Producer<byte[], byte[]> producer = producer(true, "all", codec)) {
                Map<TopicPartition, List<Long>> offsets = fill(producer, 10);
                // A second flush: the sequence numbers must go on from the first batch's.
                fill(producer, 10).forEach((at, more) -> offsets.get(at).addAll(more));
                offsets.forEach((at, all) ->
                    say("produce idempotent acks=all %s %s offsets %s", codec, labels.get(at), run(all, first.get(at))));
            }
        }
    }

    void acks() throws Exception {
        for (String acks : List.of("1", "0")) {
            Map<TopicPartition, Long> first = new HashMap<>(next);
            Map<TopicPartition, List<Long>> offsets;
            try (Producer<byte[], byte[]> producer = producer(false, acks, "none")) {
                offsets = fill(producer, 5);
            }
            // acks=0 is answered by nobody: the end offset tells when it has arrived.
            Map<TopicPartition, Long> ends = awaitEnds();
            offsets.forEach((at, all) -> say("produce acks=%s %s %s", acks, labels.get(at),
                acks.equals("0") ? "end " + ends.get(at) : "offsets " + run(all, first.get(at))));
        }
    }

    Map<TopicPartition, Long> awaitEnds() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            for (int i = 0; ; i++) {
                Map<TopicPartition, Long> ends = consumer.endOffsets(next.keySet());
                if (ends.equals(next) || i == 100) return ends;
                Thread.sleep(100);
            }
        }
    }

    void shapes() throws Exception {
        String[][] shapes = {{null, "no key"}, {"no value", null}, {"empty value", ""}, {"", "empty key"}, {"ключ", "žluťoučký"}};
        Header[] headers = {
            new RecordHeader("a", bytes("1")), new RecordHeader("a", bytes("2")),
            new RecordHeader("b", null), new RecordHeader("c", bytes(""))};
        try (Producer<byte[], byte[]> producer = producer(true, "all", "none");
             KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            for (String kind : KINDS) {
                TopicPartition at = new TopicPartition(names.get(kind), 0);
                long first = next.get(at);
                for (String[] shape : shapes)
                    producer.send(record(at, next.merge(at, 1L, Long::sum) - 1, bytes(shape[0]), bytes(shape[1]))).get();
                ProducerRecord<byte[], byte[]> last = record(at, next.merge(at, 1L, Long::sum) - 1, bytes("k"), bytes("headers"));
                for (Header header : headers) last.headers().add(header);
                producer.send(last).get();
                consumer.assign(List.of(at));
                consumer.seek(at, first);
                for (ConsumerRecord<byte[], byte[]> r : readTo(consumer, next.get(at))) say("shape %s %s", labels.get(at), canonical(r));
            }
        }
    }

    static byte[] large(int size, long n) {
        byte[] value = new byte[size];
        for (int i = 0; i < size; i++) value[i] = (byte) ((i * 31L + n) % 251);
        return value;
    }

    void large() throws Exception {
        try (Producer<byte[], byte[]> producer = producer(true, "all", "none")) {
            for (String kind : KINDS) {
                TopicPartition at = new TopicPartition(names.get(kind), 1);
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (int i = 0; i < 4; i++) {
                    long n = next.merge(at, 1L, Long::sum) - 1;
                    sent.add(producer.send(record(at, n, null, large(900_000, n))));
                }
                for (Future<RecordMetadata> one : sent) say("large %s offset %d", labels.get(at), one.get().offset());
            }
        }
        try (Producer<byte[], byte[]> producer = producer(false, "all", "none")) {
            for (String kind : KINDS) {
                TopicPartition at = new TopicPartition(names.get(kind), 1);
                say("too large %s %s", labels.get(at),
                    outcome(() -> producer.send(record(at, 0, null, large(1_200_000, 0))).get()));
            }
        }
    }

    // ---- reading

    KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("auto.offset.reset", "none");
        config.put("enable.auto.commit", false);
        config.putAll(more);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    List<ConsumerRecord<byte[], byte[]>> readTo(KafkaConsumer<byte[], byte[]> consumer, long end) {
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (got.isEmpty() || got.get(got.size() - 1).offset() < end - 1) {
            if (System.nanoTime() > deadline) throw new IllegalStateException("read stopped after " + got.size() + " records");
            consumer.poll(Duration.ofMillis(200)).forEach(got::add);
        }
        return got;
    }

    static String text(byte[] bytes) throws Exception {
        if (bytes == null) return "null";
        if (bytes.length > 100) return bytes.length + "#" + sha(bytes);
        return new String(bytes, StandardCharsets.UTF_8);
    }

    static String sha(byte[] bytes) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(bytes);
        StringBuilder hex = new StringBuilder();
        for (int i = 0; i < 8; i++) hex.append(String.format("%02x", digest[i]));
        return hex.toString();
    }

    static String canonical(ConsumerRecord<byte[], byte[]> r) throws Exception {
        List<String> headers = new ArrayList<>();
        for (Header header : r.headers()) headers.add(header.key() + "=" + text(header.value()));
        return r.offset() + "|" + r.timestamp() + "|" + text(r.key()) + "|" + text(r.value()) + "|" + String.join(",", headers);
    }

    static String digest(List<ConsumerRecord<byte[], byte[]>> records) throws Exception {
        StringBuilder lines = new StringBuilder();
        for (ConsumerRecord<byte[], byte[]> r : records) lines.append(canonical(r)).append('\n');
        return sha(bytes(lines.toString()));
    }

    void offsets() {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            Map<TopicPartition, Long> begins = consumer.beginningOffsets(next.keySet());
            Map<TopicPartition, Long> ends = consumer.endOffsets(next.keySet());
            for (TopicPartition at : next.keySet())
                say("offsets %s begin=%d end=%d", labels.get(at), begins.get(at), ends.get(at));
        }
    }

    void read(String isolation) throws Exception {
        // All six partitions at once: the fetcher must keep both kinds of leader busy.
        Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> got = new LinkedHashMap<>();
        long wanted = next.values().stream().mapToLong(n -> n).sum(), seen = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of("isolation.level", isolation))) {
            consumer.assign(next.keySet());
            consumer.seekToBeginning(next.keySet());
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (seen < wanted) {
                if (System.nanoTime() > deadline) throw new IllegalStateException("read " + seen + " of " + wanted);
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
                    got.computeIfAbsent(new TopicPartition(r.topic(), r.partition()), k -> new ArrayList<>()).add(r);
                    seen++;
                }
            }
        }
        for (TopicPartition at : next.keySet()) {
            List<ConsumerRecord<byte[], byte[]>> records = got.get(at);
            List<Long> offsets = records.stream().map(ConsumerRecord::offset).collect(Collectors.toList());
            say("read %s %s offsets %s sha256=%s", isolation, labels.get(at), run(offsets, 0), digest(records));
        }
    }

    void seek() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of("max.poll.records", 1))) {
            for (String kind : KINDS) {
                TopicPartition at = new TopicPartition(names.get(kind), 1);
                consumer.assign(List.of(at));
                for (long offset : new long[] {57, 0, next.get(at) - 1}) {
                    consumer.seek(at, offset);
                    say("seek %s offset=%d read=%d", labels.get(at), offset, readTo(consumer, 0).get(0).offset());
                }
                // Exactly on a record, between two, before the first, after the last.
                for (long timestamp : new long[] {1_000_500, 1_000_495, 1, 9_999_999}) {
                    OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(at, timestamp)).get(at);
                    if (found == null) {
                        say("seek-by-time %s ts=%d none", labels.get(at), timestamp);
                        continue;
                    }
                    consumer.seek(at, found.offset());
                    say("seek-by-time %s ts=%d offset=%d read=%d", labels.get(at), timestamp, found.offset(),
                        readTo(consumer, 0).get(0).offset());
                }
                consumer.seek(at, 1_000_000);
                say("seek %s offset=1000000 %s", labels.get(at), outcome(() -> readTo(consumer, 0)));
            }
        }
    }

    // ---- the group

    Member member(String group) {
        Map<String, Object> config = new HashMap<>();
        config.put("group.id", group);
        config.put("auto.offset.reset", "earliest");
        if (protocol.equals("consumer")) {
            config.put("group.protocol", "consumer");
        } else {
            config.put("session.timeout.ms", 10_000);
            config.put("heartbeat.interval.ms", 300);
        }
        return new Member(consumer(config), names.values());
    }

    /** Takes exactly the records up to `next` from all members together: none lost, none twice, in order. */
    String awaitRecords(Map<TopicPartition, Long> position, Member... members) throws Exception {
        Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> got = new HashMap<>();
        long count = 0, wanted = 0;
        for (TopicPartition at : next.keySet()) wanted += next.get(at) - position.get(at);
        String order = "order ok";
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (count < wanted) {
            if (System.nanoTime() > deadline) throw new IllegalStateException("group read " + count + " of " + wanted);
            Thread.sleep(20);
            for (Member member : members)
                for (ConsumerRecord<byte[], byte[]> r : member.take()) {
                    TopicPartition at = new TopicPartition(r.topic(), r.partition());
                    if (r.offset() != position.get(at)) order = "WRONG at " + labels.get(at) + " " + r.offset();
                    position.put(at, r.offset() + 1);
                    got.computeIfAbsent(at, k -> new ArrayList<>()).add(r);
                    count++;
                }
        }
        List<ConsumerRecord<byte[], byte[]>> inOrder = new ArrayList<>();
        for (TopicPartition at : next.keySet()) inOrder.addAll(got.getOrDefault(at, List.of()));
        return count + " sha256=" + digest(inOrder) + " " + order;
    }

    void awaitAssignment(Member... members) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (true) {
            List<TopicPartition> all = new ArrayList<>();
            boolean everyone = true;
            for (Member member : members) {
                everyone &= !member.assignment().isEmpty();
                all.addAll(member.assignment());
            }
            if (everyone && all.size() == next.size() && new HashSet<>(all).equals(next.keySet())) return;
            if (System.nanoTime() > deadline) throw new IllegalStateException("no full assignment, have " + all);
            Thread.sleep(50);
        }
    }

    void committed(String group) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> all = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        for (TopicPartition at : next.keySet())
            say("group committed %s %s", labels.get(at), all.get(at) == null ? "none" : all.get(at).offset());
    }

    void group() throws Exception {
        String group = run + "-group";
        Map<TopicPartition, Long> position = new HashMap<>();
        next.keySet().forEach(at -> position.put(at, 0L));
        try (Producer<byte[], byte[]> producer = producer(true, "all", "none")) {
            Member first = member(group);
            say("group first read %s", awaitRecords(position, first));
            first.commit();
            first.close();
            committed(group);

            fill(producer, 10);
            Member a = member(group);
            say("group resumed read %s", awaitRecords(position, a));
            a.commit();

            Member b = member(group);
            awaitAssignment(a, b);
            say("group rebalance 2 members share %d partitions ok", next.size());
            fill(producer, 5);
            say("group two members read %s", awaitRecords(position, a, b));
            a.commit();
            b.commit();
            b.close();

            awaitAssignment(a);
            fill(producer, 5);
            say("group takeover read %s", awaitRecords(position, a));
            a.commit();
            a.close();
            committed(group);
        }
    }

    // ---- admin

    /** "ok", or Kafka's error code. */
    static String outcome(Callable<?> action) throws Exception {
        try {
            action.call();
            return "ok";
        } catch (Exception e) {
            Throwable cause = e instanceof ExecutionException ? e.getCause() : e;
            if (cause instanceof NoOffsetForPartitionException || cause instanceof OffsetOutOfRangeException) return "error=1";
            Errors error = Errors.forException(cause);
            if (error == Errors.UNKNOWN_SERVER_ERROR) throw e;
            return "error=" + error.code();
        }
    }

    String listed(List<String> expected) throws Exception {
        for (int i = 0; ; i++) {
            Set<String> all = admin.listTopics().names().get();
            List<String> found = new ArrayList<>();
            for (String kind : KINDS)
                for (String suffix : List.of("", ".tmp"))
                    if (all.contains(names.get(kind) + suffix)) found.add(kind + suffix);
            // A broker's metadata may lag behind the controller's answer.
            if (found.equals(expected) || i == 100) return String.join(",", found);
            Thread.sleep(100);
        }
    }

    /** A broker that has not heard of a new topic yet says so; the next try asks another, or later. */
    static <T> T eventually(Callable<T> action) throws Exception {
        for (int i = 0; ; i++) {
            try {
                return action.call();
            } catch (ExecutionException e) {
                if (i == 100 || !(e.getCause() instanceof UnknownTopicOrPartitionException)) throw e;
                Thread.sleep(100);
            }
        }
    }

    String describe(String topic) throws Exception {
        for (int i = 0; ; i++) {
            List<TopicPartitionInfo> partitions =
                eventually(() -> Compat.describe(admin, List.of(topic)).get(topic)).partitions();
            boolean led = partitions.stream().allMatch(p -> p.leader() != null && p.leader().port() > 0
                && p.replicas().contains(p.leader()) && p.isr().contains(p.leader()));
            if (led || i == 100) return "partitions=" + partitions.size() + " leaders=" + (led ? "ok" : "WRONG");
            Thread.sleep(100);
        }
    }

    String config(String topic, String key) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return key + "=" + eventually(() -> admin.describeConfigs(List.of(resource)).all().get()).get(resource).get(key).value();
    }

    void admin() throws Exception {
        for (String kind : KINDS) {
            NewTopic topic = new NewTopic(names.get(kind) + ".tmp", Optional.of(2), Optional.empty());
            topic.configs(Map.of("retention.ms", "86400000"));
            say("admin create %s.tmp %s", kind, outcome(() -> admin.createTopics(List.of(topic)).all().get()));
            say("admin create %s.tmp %s", kind, outcome(() -> admin.createTopics(List.of(topic)).all().get()));
        }
        say("admin list %s", listed(List.of("diskless", "diskless.tmp", "classic", "classic.tmp")));
        for (String kind : KINDS) {
            String topic = names.get(kind), tmp = topic + ".tmp";
            say("admin describe %s %s", kind, describe(topic));
            say("admin describe %s.tmp %s", kind, describe(tmp));
            say("admin config %s %s", kind, config(topic, "max.message.bytes"));
            say("admin config %s.tmp %s", kind, config(tmp, "retention.ms"));
        }
        for (String kind : KINDS)
            say("admin delete %s.tmp %s", kind, outcome(() -> admin.deleteTopics(List.of(names.get(kind) + ".tmp")).all().get()));
        say("admin list %s", listed(List.of("diskless", "classic")));
        for (String kind : KINDS)
            say("admin delete %s.tmp %s", kind, outcome(() -> admin.deleteTopics(List.of(names.get(kind) + ".tmp")).all().get()));
        TreeSet<String> groups = new TreeSet<>();
        for (String group : Compat.groups(admin))
            if (group.startsWith(run + "-")) groups.add(group.substring(run.length() + 1));
        say("admin groups %s", String.join(",", groups));
    }
}
