// What a reader at the end of a topic waits for: one producer, and consumers at one or several
// replicas in the same process, so that one clock times all.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The head of a record's value: the run that sent it, so that what an earlier run left is not
// counted, and its number in that run.
const stampBytes = 16

// received is one record at one consumer, at a time since the start of the process.
type received struct {
	n  int
	at time.Duration
}

// reader is one consumer, in a group of its own.
type reader struct {
	path    string
	client  *kgo.Client
	mu      sync.Mutex
	records []received
}

// tailer is a producer at a steady pace with its readers.
type tailer struct {
	started time.Time
	run     uint64
	pause   time.Duration
	readers []*reader

	mu sync.Mutex
	// By the record's number: when it was sent, and when it was acked (0: not yet).
	sent, acked []time.Duration
	errors      int
}

// span is a part of a run: what was sent from begin until end counts.
type span struct{ begin, end time.Duration }

func newTailer(rate int) *tailer {
	return &tailer{started: time.Now(), run: uint64(time.Now().UnixNano()), pause: time.Second / time.Duration(rate)}
}

func (t *tailer) now() time.Duration { return time.Since(t.started) }

// read starts a consumer of what comes from now on.
func (t *tailer) read(path, bootstrap, topic string) {
	client := must(kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(fmt.Sprintf("tail-%x-%d", t.run, len(t.readers))),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd())))
	r := &reader{path: path, client: client}
	t.readers = append(t.readers, r)
	go func() {
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			at := t.now()
			r.mu.Lock()
			fetches.EachRecord(func(record *kgo.Record) {
				if len(record.Value) >= stampBytes && binary.BigEndian.Uint64(record.Value) == t.run {
					r.records = append(r.records, received{int(binary.BigEndian.Uint64(record.Value[8:])), at})
				}
			})
			r.mu.Unlock()
		}
	}()
}

// produce sends a record for each pause until it is cancelled, then waits for the acks.
func (t *tailer) produce(ctx context.Context, bootstrap, topic string) {
	client := must(kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic)))
	defer client.Close()
	begin := t.now()
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(begin + time.Duration(n)*t.pause - t.now())
		stamped := slices.Clone(value(n))
		binary.BigEndian.PutUint64(stamped, t.run)
		binary.BigEndian.PutUint64(stamped[8:], uint64(n))
		t.mu.Lock()
		t.sent, t.acked = append(t.sent, t.now()), append(t.acked, 0)
		t.mu.Unlock()
		client.Produce(context.Background(), &kgo.Record{Value: stamped}, func(_ *kgo.Record, err error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if err != nil {
				t.errors++
				return
			}
			t.acked[n] = t.now()
		})
	}
	ended, end := context.WithTimeout(context.Background(), 15*time.Second)
	defer end()
	client.Flush(ended)
}

// awaitReaders returns when each reader has had a record: from then on nobody misses one.
func (t *tailer) awaitReaders() {
	limit := time.Now().Add(40 * time.Second)
	for _, r := range t.readers {
		for r.count() == 0 {
			if time.Now().After(limit) {
				fail("a consumer of %s got nothing within 40 s", r.path)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// awaitAll waits a while for the readers to have what was sent; missing then counts the rest.
func (t *tailer) awaitAll(limit time.Duration) {
	t.mu.Lock()
	last := len(t.sent) - 1
	t.mu.Unlock()
	until := time.Now().Add(limit)
	for _, r := range t.readers {
		for !r.has(last) && time.Now().Before(until) {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (r *reader) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.records)
}

func (r *reader) has(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.records) > 0 && r.records[len(r.records)-1].n >= n
}

// figures are those of one path in one window, as name=value: `ack` from send to ack, `e2e` from
// send until a consumer has the record, `after` from its ack until then, in milliseconds.
func (t *tailer) figures(path string, w span) string {
	var acks, ends, afters []time.Duration
	inside := map[int]bool{}
	t.mu.Lock()
	defer t.mu.Unlock()
	for n, sent := range t.sent {
		if sent >= w.begin && sent < w.end && t.acked[n] > 0 {
			inside[n] = true
			acks = append(acks, t.acked[n]-sent)
		}
	}
	missing, repeated := 0, 0
	for _, r := range t.readers {
		if r.path != path {
			continue
		}
		r.mu.Lock()
		seen := map[int]bool{}
		for _, got := range r.records {
			if !inside[got.n] {
				continue
			}
			if seen[got.n] {
				repeated++
				continue
			}
			seen[got.n] = true
			ends = append(ends, got.at-t.sent[got.n])
			afters = append(afters, got.at-t.acked[got.n])
		}
		missing += len(inside) - len(seen)
		r.mu.Unlock()
	}
	return fmt.Sprintf("path=%s ack_p50=%.1f ack_p99=%.1f e2e_p50=%.1f e2e_p99=%.1f after_p50=%.1f after_p99=%.1f errors=%d",
		path, quantile(acks, .5), quantile(acks, .99), quantile(ends, .5), quantile(ends, .99),
		quantile(afters, .5), quantile(afters, .99), t.errors+missing+repeated)
}

// tail is the subcommand: PRODUCE_BOOTSTRAP TOPIC PATH=BOOTSTRAP[+BOOTSTRAP…]… The consumers of a
// path are spread over its replicas. It prints a line of name=value for each path.
func tail(arguments []string) {
	flags := flag.NewFlagSet("tail", flag.ExitOnError)
	rate := flags.Int("rate", 100, "records a second")
	seconds := flags.Float64("seconds", 10, "what is measured, once every consumer gets records")
	consumers := flags.Int("consumers", 1, "of each path, each in its own group")
	pid := flags.Int("pid", os.Getpid(), "the server whose CPU time is taken")
	s3 := flags.String("s3", "", "host:port of the slow-s3 behind it")
	admin := flags.String("admin", "", "host:port of the admin port of the replica that writes")
	flags.Parse(arguments)

	t := newTailer(*rate)
	var paths []string
	for _, argument := range flags.Args()[2:] {
		path, bootstraps, _ := strings.Cut(argument, "=")
		paths = append(paths, path)
		replicas := strings.Split(bootstraps, "+")
		for i := range *consumers {
			t.read(path, replicas[i%len(replicas)], flags.Arg(1))
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	var producing sync.WaitGroup
	producing.Go(func() { t.produce(ctx, flags.Arg(0), flags.Arg(1)) })
	t.awaitReaders()
	time.Sleep(time.Second)
	w := span{begin: t.now()}
	before, objectsBefore := measure(*pid, *s3), objectsWritten(*admin)
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	w.end = t.now()
	after, objects := measure(*pid, *s3), objectsWritten(*admin)-objectsBefore
	stop()
	producing.Wait()
	t.awaitAll(10 * time.Second)
	spent := after.since(before)
	for _, path := range paths {
		fmt.Printf("%s objects=%.0f gets=%.0f gets_per_object=%.2f box=%.0f\n", t.figures(path, w),
			objects, spent.gets, spent.gets/objects, 100*spent.busy/spent.total)
	}
}
