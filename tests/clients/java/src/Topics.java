import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Topics create|delete BOOTSTRAP NAME...: the harness's fresh topics, in one JVM start. */
public final class Topics {
    public static void main(String[] args) throws Exception {
        List<String> names = List.of(args).subList(2, args.length);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[1]))) {
            if (args[0].equals("delete")) {
                delete(admin, names);
            } else {
                create(admin, names);
            }
        }
    }

    static void delete(Admin admin, List<String> names) throws Exception {
        Set<String> present = admin.listTopics().names().get();
        List<String> ours = names.stream().filter(present::contains).collect(Collectors.toList());
        if (!ours.isEmpty()) admin.deleteTopics(ours).all().get();
    }

    static void create(Admin admin, List<String> names) throws Exception {
        delete(admin, names);
        // The script's timestamps are of 1970, so that they can be written down: nothing may expire by them.
        Map<String, String> configs = Map.of("retention.ms", "-1");
        List<NewTopic> topics = names.stream()
            .map(name -> new NewTopic(name, Optional.of(3), Optional.empty()).configs(configs)).collect(Collectors.toList());
        // Deleted topics linger for a moment on the brokers.
        for (int i = 0; ; i++) {
            try {
                admin.createTopics(topics).all().get();
                break;
            } catch (java.util.concurrent.ExecutionException e) {
                if (i == 50 || !(e.getCause() instanceof org.apache.kafka.common.errors.TopicExistsException)) throw e;
                delete(admin, names);
                Thread.sleep(200);
            }
        }
        for (int i = 0; !ready(admin, names); i++) {
            if (i == 100) throw new IllegalStateException("topics have no leaders after 20 s");
            Thread.sleep(200);
        }
    }

    static boolean ready(Admin admin, List<String> names) throws Exception {
        try {
            return Compat.describe(admin, names).values().stream().flatMap(t -> t.partitions().stream())
                .allMatch(p -> p.leader() != null && p.leader().id() >= 0);
        } catch (java.util.concurrent.ExecutionException e) {
            if (e.getCause() instanceof UnknownTopicOrPartitionException) return false;
            throw e;
        }
    }
}
