// Histories: one is written, then read from its beginning by one or several consumers at once.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordBytes is the size of every record's value; MB/s are of values, as in load.go.
const recordBytes = 1024

// fill is the subcommand: producers write a topic full, evenly over its partitions.
func fill(arguments []string) {
	flags := flag.NewFlagSet("fill", flag.ExitOnError)
	mib := flags.Int("mib", 1024, "how much, all in all")
	producers := flags.Int("producers", 8, "how many")
	admin := flags.String("admin", "", "host:port of the admin port of the replica that writes")
	flags.Parse(arguments)

	records := *mib << 20 / recordBytes
	var done sync.WaitGroup
	var errors atomic.Int64
	begin, before := time.Now(), objectsWritten(*admin)
	for i := range *producers {
		client := must(kgo.NewClient(kgo.SeedBrokers(flags.Arg(0)), kgo.DefaultProduceTopic(flags.Arg(1)),
			kgo.MaxBufferedRecords(underWay / *producers)))
		done.Go(func() {
			for n := i; n < records; n += *producers {
				client.Produce(context.Background(), &kgo.Record{Value: value(n)}, func(_ *kgo.Record, err error) {
					if err != nil {
						errors.Add(1)
					}
				})
			}
			client.Flush(context.Background())
			client.Close()
		})
	}
	done.Wait()
	if errors.Load() > 0 {
		fail("%d of %d records were not acked", errors.Load(), records)
	}
	took, objects := time.Since(begin), objectsWritten(*admin)-before
	fmt.Printf("records=%d seconds=%.1f mbs=%.1f objects=%.0f object_kib=%.0f\n", records, took.Seconds(),
		float64(records)*recordBytes/1e6/took.Seconds(), objects, float64(*mib)*1024/objects)
}

// readAll reads a topic of so many records from its beginning, so many bytes per partition and fetch
// and with defaults but for the group, if any; a record too many or too few is an error.
func readAll(bootstrap, topic, group string, partitionBytes int32, records int, limit time.Duration) error {
	options := []kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(partitionBytes)}
	if group != "" {
		options = append(options, kgo.ConsumerGroup(group))
	}
	client := must(kgo.NewClient(options...))
	defer client.CloseAllowingRebalance()
	ctx, end := context.WithTimeout(context.Background(), limit)
	defer end()
	next := map[int32]int64{}
	for got := 0; got < records; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d records within %v", got, records, limit)
		}
		for _, failed := range fetches.Errors() {
			return failed.Err
		}
		for each := fetches.RecordIter(); !each.Done(); got++ {
			record := each.Next()
			if record.Offset != next[record.Partition] || len(record.Value) != recordBytes {
				return fmt.Errorf("offset %d of partition %d, %d expected", record.Offset, record.Partition, next[record.Partition])
			}
			next[record.Partition]++
		}
	}
	return nil
}

// readers lets several groups (or, without groups, one consumer) read everything at once; gives
// what failed, if anything did.
func readers(bootstrap, topic string, groups int, partitionBytes int32, records int) error {
	if groups == 0 {
		return readAll(bootstrap, topic, "", partitionBytes, records, time.Minute)
	}
	failures := make([]error, groups)
	var done sync.WaitGroup
	for i := range failures {
		group := fmt.Sprintf("replay-%x-%d", time.Now().UnixNano(), i)
		done.Go(func() { failures[i] = readAll(bootstrap, topic, group, partitionBytes, records, 90*time.Second) })
	}
	done.Wait()
	at := slices.IndexFunc(failures, func(err error) bool { return err != nil })
	if at < 0 {
		return nil
	}
	return failures[at]
}

// replay is the subcommand: BOOTSTRAP TOPIC.
func replay(arguments []string) {
	flags := flag.NewFlagSet("replay", flag.ExitOnError)
	groups := flags.Int("groups", 0, "how many read it at once; 0: one consumer without a group")
	partitionMib := flags.Int("partition-mib", 1, "how much of a partition a fetch may get")
	records := flags.Int("records", 0, "how many there are")
	pid := flags.Int("pid", os.Getpid(), "the replica whose CPU time is taken")
	broker := flags.Int("broker-pid", os.Getpid(), "the broker whose CPU time is taken")
	s3 := flags.String("s3", "", "host:port of the slow-s3 behind the replica")
	objects := flags.Float64("objects", 0, "in how many objects they lie")
	flags.Parse(arguments)

	begin, before, brokerBefore := time.Now(), measure(*pid, *s3), processSeconds(*broker)
	if err := readers(flags.Arg(0), flags.Arg(1), *groups, int32(*partitionMib<<20), *records); err != nil {
		fail("%v", err)
	}
	took, spent, broke := time.Since(begin), measure(*pid, *s3).since(before), processSeconds(*broker)-brokerBefore
	fmt.Println(replayed(*records*max(*groups, 1), took, spent, broke, *objects))
}

// replayed are a replay's figures as name=value.
func replayed(records int, took time.Duration, spent meters, broker, objects float64) string {
	bytes := float64(records) * recordBytes
	gib := bytes / (1 << 30)
	return fmt.Sprintf("seconds=%.1f mbs=%.1f cpu_per_gib=%.2f broker_cpu_per_gib=%.2f gets=%.0f gets_per_object=%.2f get_kib=%.0f store_per_byte=%.2f box=%.0f",
		took.Seconds(), bytes/1e6/took.Seconds(), spent.cpu/gib, broker/gib, spent.gets, spent.gets/objects,
		spent.getBytes/spent.gets/1024, spent.getBytes/bytes, 100*spent.busy/spent.total)
}
