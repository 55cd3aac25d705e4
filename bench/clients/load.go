// One to many franz-go producers with their defaults, watched together with a server's CPU time
// and its store's PUTs over exactly the same window.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// produceInFlight is how many Produce requests an idempotent franz-go client has under way at a
// broker, once the first was answered (newSink in pkg/kgo/sink.go).
const produceInFlight = 5

// underWay is how many records all producers together may have sent that are not acked, the number
// that one client buffers by default. Without it, many producers fill gigabytes of buffers first,
// and an ack's time says how large those are.
const underWay = 50_000

// loader is the window that all producers share: what counts lies between begin and end.
type loader struct {
	begin, end atomic.Int64
	acked      atomic.Int64
	errors     atomic.Int64

	// Of the Produce requests that were answered inside the window, from franz-go's own hooks.
	requests, requestBytes, roundTripNanos atomic.Int64
	inFlight, inFlightMax                  atomic.Int64
}

// covers tells whether a moment lies in the window.
func (l *loader) covers(at time.Time) bool {
	nanos := at.UnixNano()
	return nanos >= l.begin.Load() && nanos < l.end.Load()
}

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (l *loader) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key != 0 || err != nil {
		return
	}
	now := l.inFlight.Add(1)
	for most := l.inFlightMax.Load(); now > most && !l.inFlightMax.CompareAndSwap(most, now); {
		most = l.inFlightMax.Load()
	}
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (l *loader) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key != 0 || e2e.WriteErr != nil {
		return
	}
	l.inFlight.Add(-1)
	if e2e.ReadErr == nil && l.covers(time.Now()) {
		l.requests.Add(1)
		l.requestBytes.Add(int64(e2e.BytesWritten))
		l.roundTripNanos.Add(int64(e2e.DurationE2E()))
	}
}

// producer sends until the window is over and keeps how long each record took, from the call to
// its ack, that was sent inside the window.
type producer struct {
	*loader
	room      chan struct{}
	mu        sync.Mutex
	latencies []time.Duration
}

func (p *producer) ack(sent time.Time, err error) {
	<-p.room
	now := time.Now()
	if err != nil {
		p.errors.Add(1)
		return
	}
	if p.covers(now) {
		p.acked.Add(1)
	}
	if p.covers(sent) {
		p.mu.Lock()
		p.latencies = append(p.latencies, now.Sub(sent))
		p.mu.Unlock()
	}
}

// send produces a record for each pause, or (0) as fast as the client takes it, then waits for what
// is under way.
func (p *producer) send(client *kgo.Client, first int, start time.Time, pause time.Duration) {
	for n := 0; time.Now().UnixNano() < p.end.Load(); n++ {
		time.Sleep(time.Until(start.Add(time.Duration(n) * pause)))
		sent := time.Now()
		p.room <- struct{}{}
		client.Produce(context.Background(), &kgo.Record{Value: value(first + n)}, func(_ *kgo.Record, err error) { p.ack(sent, err) })
	}
	client.Flush(context.Background())
}

// load is the subcommand: it prints one line of name=value.
func load(arguments []string) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	producers := flags.Int("producers", 1, "how many")
	rate := flags.Int("rate", 0, "records a second of all together; 0: as many as it takes")
	seconds := flags.Float64("seconds", 10, "what is measured, after the warm-up")
	warmUp := flags.Float64("warm-up", 3, "seconds before that")
	pid := flags.Int("pid", os.Getpid(), "the server whose CPU time is taken")
	s3 := flags.String("s3", "", "host:port of the slow-s3 that it writes to")
	flags.Parse(arguments)
	bootstrap, topic := flags.Arg(0), flags.Arg(1)

	l := &loader{}
	begin := time.Now().Add(time.Duration(*warmUp * float64(time.Second)))
	end := begin.Add(time.Duration(*seconds * float64(time.Second)))
	l.begin.Store(begin.UnixNano())
	l.end.Store(end.UnixNano())
	all := make([]*producer, *producers)
	var done sync.WaitGroup
	for i := range all {
		client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic), kgo.WithHooks(l))
		if err != nil {
			panic(err)
		}
		all[i] = &producer{loader: l, room: make(chan struct{}, underWay / *producers)}
		start, pause := time.Now(), time.Duration(0)
		if *rate > 0 {
			// One after the other, evenly.
			start = start.Add(time.Duration(i) * time.Second / time.Duration(*rate))
			pause = time.Duration(*producers) * time.Second / time.Duration(*rate)
		}
		done.Go(func() { all[i].send(client, i*7919, start, pause) })
	}
	time.Sleep(time.Until(begin))
	before := measure(*pid, *s3)
	time.Sleep(time.Until(end))
	after := measure(*pid, *s3)
	unanswered := !waitFor(&done, 15*time.Second)
	l.print(all, before, after, *seconds, unanswered)
}

func waitFor(done *sync.WaitGroup, limit time.Duration) bool {
	ended := make(chan struct{})
	go func() { done.Wait(); close(ended) }()
	select {
	case <-ended:
		return true
	case <-time.After(limit):
		return false
	}
}

func (l *loader) print(all []*producer, before, after meters, seconds float64, unanswered bool) {
	var latencies []time.Duration
	for _, p := range all {
		p.mu.Lock()
		latencies = append(latencies, p.latencies...)
		p.mu.Unlock()
	}
	at := func(share float64) float64 { return quantile(latencies, share) }
	errors := l.errors.Load()
	if unanswered {
		// Somebody still waits; whoever reads the table must see that the percentiles leave it out.
		errors++
	}
	bytes := float64(l.acked.Load()) * 1024
	gib := bytes / (1 << 30)
	requests := float64(l.requests.Load())
	spent := after.since(before)
	fields := []string{
		fmt.Sprintf("mbs=%.2f p50=%.1f p99=%.1f p999=%.1f errors=%d", bytes/1e6/seconds, at(.5), at(.99), at(.999), errors),
		fmt.Sprintf("puts_per_s=%.1f puts_per_gib=%.0f put_kib=%.1f", spent.puts/seconds, spent.puts/gib, spent.putBytes/spent.puts/1024),
		fmt.Sprintf("cpu_per_gib=%.2f cpu_cores=%.2f box=%.0f", spent.cpu/gib, spent.cpu/seconds, 100*spent.busy/spent.total),
		fmt.Sprintf("in_flight=%d in_flight_seen=%d", produceInFlight, l.inFlightMax.Load()),
		fmt.Sprintf("request_bytes=%.0f rtt_ms=%.2f wire_mbs=%.3f", float64(l.requestBytes.Load())/requests,
			float64(l.roundTripNanos.Load())/requests/1e6, float64(l.requestBytes.Load())/1e6/seconds),
	}
	fmt.Println(strings.Join(fields, " "))
}
