// One franz-go producer with its defaults; ProduceBench.java says what is measured. The first argument
// may name another job: `load` (load.go), `tail` (tail.go), `fill` and `replay` (replay.go),
// `backfill` (backfill.go), `isolation` (isolation.go), or `connections` (connections.go).
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var noise = make([]byte, 1<<20)

// value gives 1 KiB that no compression makes smaller.
func value(n int) []byte {
	at := n * 1021 % (len(noise) - 1024)
	return noise[at : at+1024]
}

type window struct {
	mu        sync.Mutex
	open      bool
	latencies []time.Duration
	errors    int
}

func (w *window) ack(sent time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.open:
	case err != nil:
		w.errors++
	default:
		w.latencies = append(w.latencies, time.Since(sent))
	}
}

// run produces for a while, at a rate or (0) as fast as the client takes it.
func run(bootstrap, topic string, seconds, rate int) *window {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic))
	if err != nil {
		panic(err)
	}
	w := &window{open: true}
	length := time.Duration(seconds) * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	start := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if rate > 0 && n%(rate/100) == 0 {
			time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		}
		sent := time.Now()
		client.Produce(context.Background(), &kgo.Record{Value: value(n)}, func(_ *kgo.Record, err error) { w.ack(sent, err) })
		if rate == 0 && client.BufferedProduceRecords() > 9000 {
			// Produce would block without an end; wait for room as long as the window is open.
			for ctx.Err() == nil && client.BufferedProduceRecords() > 9000 {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	w.mu.Lock()
	w.open = false
	w.mu.Unlock()
	client.Close()
	slices.Sort(w.latencies)
	return w
}

func (w *window) percentile(p float64) float64 {
	if len(w.latencies) == 0 {
		return -1
	}
	return float64(w.latencies[int(p*float64(len(w.latencies)-1))].Microseconds()) / 1000
}

func main() {
	rand.Read(noise)
	jobs := map[string]func([]string){"load": load, "tail": tail, "fill": fill, "replay": replay, "backfill": backfill, "isolation": isolation, "connections": connections}
	if job, known := jobs[os.Args[1]]; known {
		job(os.Args[2:])
		return
	}
	seconds, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	run(os.Args[1], os.Args[2], 2, 0)
	full := run(os.Args[1], os.Args[2], seconds, 0)
	paced := run(os.Args[1], os.Args[2], (seconds+1)/2, 1000)
	fmt.Printf("%.2f %.1f %.1f %.1f %.1f %d\n", float64(len(full.latencies))*1024/1e6/float64(seconds),
		full.percentile(.5), full.percentile(.99), paced.percentile(.5), paced.percentile(.99), full.errors+paced.errors)
}
