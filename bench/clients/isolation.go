// What producers notice of a server that stands still: many, each with a client and a partition of
// its own, before, during and after a process is stopped with SIGSTOP.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// affectedAfter is how long the longest wait of a producer is at least that the fault affected.
const affectedAfter = 3 * time.Second

// isolated is one producer; sent and acked by the record's number, since the start of the run.
type isolated struct {
	partition   int32
	mu          sync.Mutex
	sent, acked []time.Duration
	errors      int
}

// produce sends a record for each pause until the context ends, then waits for what is under way.
func (p *isolated) produce(ctx context.Context, started time.Time, pause time.Duration, bootstrap, topic string, idempotent bool) {
	options := []kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner())}
	if !idempotent {
		// In order too, so that a record that waits is waited for by those behind it only.
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	client := must(kgo.NewClient(options...))
	defer client.Close()
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(time.Until(started.Add(time.Duration(n) * pause)))
		stamped := slices.Clone(value(n))
		binary.BigEndian.PutUint64(stamped, uint64(n))
		p.mu.Lock()
		p.sent, p.acked = append(p.sent, time.Since(started)), append(p.acked, 0)
		p.mu.Unlock()
		client.Produce(context.Background(), &kgo.Record{Partition: p.partition, Value: stamped}, func(_ *kgo.Record, err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if err != nil {
				p.errors++
				return
			}
			p.acked[n] = time.Since(started)
		})
	}
	limit, end := context.WithTimeout(context.Background(), 60*time.Second)
	defer end()
	client.Flush(limit)
}

// within gives the times of ack of what was sent in a span.
func (p *isolated) within(s span) []time.Duration {
	var all []time.Duration
	for n, sent := range p.sent {
		if sent >= s.begin && sent < s.end && p.acked[n] > 0 {
			all = append(all, p.acked[n]-sent)
		}
	}
	return all
}

// counted are the records of one partition by their number.
func counted(bootstrap, topic string, partitions int, records int, limit time.Duration) []map[int]int {
	offsets := map[int32]kgo.Offset{}
	for p := range partitions {
		offsets[int32(p)] = kgo.NewOffset().AtStart()
	}
	client := must(kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets})))
	defer client.Close()
	counts := make([]map[int]int, partitions)
	for p := range counts {
		counts[p] = map[int]int{}
	}
	until := time.Now().Add(limit)
	for idle := 0; idle < 3 && time.Now().Before(until); {
		ctx, end := context.WithTimeout(context.Background(), time.Second)
		fetches := client.PollFetches(ctx)
		end()
		if fetches.NumRecords() == 0 && records <= 0 {
			idle++
		}
		fetches.EachRecord(func(record *kgo.Record) {
			counts[record.Partition][int(binary.BigEndian.Uint64(record.Value))]++
			records--
		})
	}
	return counts
}

// isolation is the subcommand: BOOTSTRAP TOPIC. It prints a line of name=value.
func isolation(arguments []string) {
	flags := flag.NewFlagSet("isolation", flag.ExitOnError)
	producers := flags.Int("producers", 24, "how many, each with a partition of its own")
	rate := flags.Int("rate", 20, "records a second of each")
	seconds := flags.Float64("seconds", 20, "how long the process stands still, and what is measured before")
	pid := flags.Int("pid", 0, "the process that stands still")
	idempotent := flags.Bool("idempotent", true, "whether producers are idempotent")
	flags.Parse(arguments)

	started, pause := time.Now(), time.Second/time.Duration(*rate)
	length := time.Duration(*seconds * float64(time.Second))
	ctx, stop := context.WithCancel(context.Background())
	all := make([]*isolated, *producers)
	var done sync.WaitGroup
	for i := range all {
		all[i] = &isolated{partition: int32(i)}
		start := started.Add(pause * time.Duration(i) / time.Duration(*producers))
		done.Go(func() { all[i].produce(ctx, start, pause, flags.Arg(0), flags.Arg(1), *idempotent) })
	}
	time.Sleep(3 * time.Second)
	before := span{begin: time.Since(started)}
	time.Sleep(length)
	before.end = time.Since(started)
	if err := syscall.Kill(*pid, syscall.SIGSTOP); err != nil {
		fail("cannot stop process %d: %v", *pid, err)
	}
	time.Sleep(length)
	during := span{begin: before.end, end: time.Since(started)}
	must(0, syscall.Kill(*pid, syscall.SIGCONT))
	time.Sleep(5 * time.Second)
	stop()
	if !waitFor(&done, 70*time.Second) {
		fail("producers did not end within 70 s")
	}
	printIsolation(all, before, during, flags.Arg(0), flags.Arg(1))
}

func printIsolation(all []*isolated, before, during span, bootstrap, topic string) {
	acked, errors, affected := 0, 0, 0
	var quietly, meanwhile []time.Duration
	for _, p := range all {
		errors += p.errors
		for _, at := range p.acked {
			if at > 0 {
				acked++
			}
		}
		while := p.within(during)
		if len(while) == 0 || slices.Max(while) >= affectedAfter {
			affected++
			continue
		}
		quietly, meanwhile = append(quietly, p.within(before)...), append(meanwhile, while...)
	}
	lost, repeated := 0, 0
	for p, numbers := range counted(bootstrap, topic, len(all), acked, 60*time.Second) {
		for n, at := range all[p].acked {
			switch count := numbers[n]; {
			case at > 0 && count == 0:
				lost++
			case at > 0 && count > 1:
				repeated++
			}
		}
	}
	ratio := quantile(meanwhile, .99) / quantile(quietly, .99)
	fmt.Printf("affected=%d of=%d acked=%d p50_before=%.1f p50=%.1f p99_before=%.1f p99=%.1f max=%.1f ratio=%.2f errors=%d lost=%d repeated=%d\n",
		affected, len(all), acked, quantile(quietly, .5), quantile(meanwhile, .5), quantile(quietly, .99),
		quantile(meanwhile, .99), quantile(meanwhile, 1), ratio, errors, lost, repeated)
}
