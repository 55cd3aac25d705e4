// What a server's connections cost it in memory: many are opened to one of its ports, and are idle, produce
// a record now and then, or wait for records.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// settle is how long the server is left alone before its memory is read.
	settle = 10 * time.Second
	// producePause is the time between two records of a connection.
	producePause = 10 * time.Second
	// fetchWait is how long the server holds a fetch.
	fetchWait = 5 * time.Second
	// openers is the number of connections that are opened at once.
	openers = 64
)

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("connections"))

// residentKiB is the memory of a process, in KiB.
func residentKiB(pid int) float64 {
	for _, line := range strings.Split(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)))), "\n") {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			return number(strings.Fields(value)[0])
		}
	}
	fail("process %d has no VmRSS", pid)
	return 0
}

// leader is the address at which a topic's first partition is served.
func leader(bootstrap, topic string) string {
	client := must(kgo.NewClient(kgo.SeedBrokers(bootstrap)))
	defer client.Close()
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	response := must(request.RequestWith(context.Background(), client))
	for _, partition := range response.Topics[0].Partitions {
		for _, broker := range response.Brokers {
			if partition.Partition == 0 && broker.NodeID == partition.Leader {
				return net.JoinHostPort(broker.Host, fmt.Sprint(broker.Port))
			}
		}
	}
	fail("partition 0 of %s has no leader", topic)
	return ""
}

// call sends a request and reads its response, which it does not look into.
func call(conn net.Conn, request kmsg.Request, correlation int32) error {
	if _, err := conn.Write(formatter.AppendRequest(nil, request, correlation)); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(length[:])))
	return err
}

func versioned(request kmsg.Request, version int16) kmsg.Request {
	request.SetVersion(version)
	return request
}

// open connects and does what every client does first.
func open(address, topic string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		return nil, err
	}
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	for i, request := range []kmsg.Request{versioned(kmsg.NewPtrApiVersionsRequest(), 2), versioned(metadata, 9)} {
		if err := call(conn, request, int32(i)); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

// batch is one record of 1 KiB.
func batch() []byte {
	record := append([]byte{0, 0, 0, 1}, binary.AppendVarint(nil, 1024)...) // attributes, deltas, no key
	record = append(append(record, value(0)...), 0)
	records := append(binary.AppendVarint(nil, int64(len(record))), record...)
	now := time.Now().UnixMilli()
	encoded := (&kmsg.RecordBatch{Length: int32(49 + len(records)), PartitionLeaderEpoch: -1, Magic: 2, FirstTimestamp: now,
		MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1, Records: records}).AppendTo(nil)
	binary.BigEndian.PutUint32(encoded[17:], crc32.Checksum(encoded[21:], crc32.MakeTable(crc32.Castagnoli)))
	return encoded
}

func produceRequest(topic string, partition int32) kmsg.Request {
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 30_000
	request.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: batch()}}}}
	return versioned(request, 8)
}

// fetchRequest asks for records of a partition that has none.
func fetchRequest(topic string, partition int32) kmsg.Request {
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = int32(fetchWait.Milliseconds()), 1, 1<<20
	request.SessionEpoch = -1
	of := kmsg.NewFetchRequestTopicPartition()
	of.Partition, of.PartitionMaxBytes = partition, 1<<20
	request.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{of}}}
	return versioned(request, 11)
}

// keepBusy repeats a request on a connection until the time is over.
func keepBusy(conn net.Conn, request kmsg.Request, first, pause time.Duration, until time.Time, calls, errors *atomic.Int64) {
	time.Sleep(first)
	for n := int32(2); time.Now().Before(until); n++ {
		began := time.Now()
		if err := call(conn, request, n); err != nil {
			errors.Add(1)
			return
		}
		calls.Add(1)
		time.Sleep(min(pause-time.Since(began), time.Until(until)))
	}
}

// openAll opens connections, some at once; those that fail are counted.
func openAll(address, topic string, count int) ([]net.Conn, int64) {
	opened, numbers := make([]net.Conn, count), make(chan int)
	var done sync.WaitGroup
	var failed atomic.Int64
	for range openers {
		done.Go(func() {
			for i := range numbers {
				conn, err := open(address, topic)
				if err != nil {
					failed.Add(1)
					continue
				}
				opened[i] = conn
			}
		})
	}
	for i := range count {
		numbers <- i
	}
	close(numbers)
	done.Wait()
	return opened, failed.Load()
}

// connections is the subcommand: BOOTSTRAP TOPIC. It prints a line of name=value.
func connections(arguments []string) {
	flags := flag.NewFlagSet("connections", flag.ExitOnError)
	count := flags.Int("count", 10_000, "how many")
	seconds := flags.Float64("seconds", 20, "how long they are busy")
	pid := flags.Int("pid", 0, "the server")
	state := flags.String("state", "idle", "idle, produce or fetch")
	atBootstrap := flags.Bool("at-bootstrap", false, "connect to BOOTSTRAP instead of the leader of TOPIC")
	partitions := flags.Int("partitions", 4, "of TOPIC; all but the last get records")
	flags.Parse(arguments)
	address, topic := flags.Arg(0), flags.Arg(1)
	if !*atBootstrap {
		address = leader(flags.Arg(0), topic)
	}
	time.Sleep(settle)
	before := residentKiB(*pid)
	opened, failed := openAll(address, topic, *count)
	var calls, errors atomic.Int64
	var peak float64
	if *state == "idle" {
		time.Sleep(settle)
		peak = residentKiB(*pid)
	} else {
		peak = busyPeak(opened, topic, *state, *partitions, *seconds, *pid, &calls, &errors)
	}
	fmt.Printf("connections=%d failed=%d before_mib=%.1f mib=%.1f kib_each=%.1f calls=%d errors=%d\n", *count, failed,
		before/1024, peak/1024, (peak-before)/float64(*count), calls.Load(), errors.Load())
}

// busyPeak keeps connections busy and gives the largest memory that was seen, in KiB.
func busyPeak(opened []net.Conn, topic, state string, partitions int, seconds float64, pid int, calls, errors *atomic.Int64) float64 {
	length := time.Duration(seconds * float64(time.Second))
	until, pause := time.Now().Add(length), producePause
	requests := make([]kmsg.Request, partitions)
	for p := range requests {
		requests[p] = produceRequest(topic, int32(p%max(partitions-1, 1)))
	}
	if state == "fetch" {
		pause = 0
		for p := range requests {
			requests[p] = fetchRequest(topic, int32(partitions-1))
		}
	}
	var done sync.WaitGroup
	for i, conn := range opened {
		if conn == nil {
			continue
		}
		first := min(producePause, length) * time.Duration(i) / time.Duration(len(opened))
		done.Go(func() { keepBusy(conn, requests[i%partitions], first, pause, until, calls, errors) })
	}
	peak := 0.0
	for time.Now().Before(until) {
		peak = max(peak, residentKiB(pid))
		time.Sleep(250 * time.Millisecond)
	}
	done.Wait()
	return peak
}
