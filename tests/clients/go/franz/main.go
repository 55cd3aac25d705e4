// franz-go.
package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "odradek/tests/clients/script"
)

var background = context.Background()

func main() {
	Main(func(bootstrap string) Client {
		seeds := kgo.SeedBrokers(bootstrap)
		return &client{seeds, kadm.NewClient(Must(kgo.NewClient(seeds)))}
	})
}

// answered turns the library's error for an answer of the cluster into ours.
func answered(err error) error {
	var kafka *kerr.Error
	if errors.As(err, &kafka) {
		return KafkaError(kafka.Code)
	}
	return err
}

type client struct {
	seeds kgo.Opt
	admin *kadm.Client
}

func (c *client) Codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }
func (c *client) Close()           { c.admin.Close() }

type producer struct{ *kgo.Client }

func (c *client) Producer(o ProducerOptions) Producer {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	acks := map[string]kgo.Acks{"all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}
	options := []kgo.Opt{c.seeds, kgo.ProducerBatchCompression(codecs[o.Codec]), kgo.RequiredAcks(acks[o.Acks]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(int32(o.MaxBatch)),
		kgo.ProducerLinger(5 * time.Millisecond)}
	if !o.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	return producer{Must(kgo.NewClient(options...))}
}

func (p producer) Send(r Record) *Sent {
	sent := &Sent{}
	record := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Timestamp: time.UnixMilli(r.Timestamp), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	p.Produce(background, record, func(record *kgo.Record, err error) { sent.Offset, sent.Err = record.Offset, answered(err) })
	return sent
}

func (p producer) Flush() { Must(0, p.Client.Flush(background)) }

func records(fetches kgo.Fetches) []Record {
	var got []Record
	fetches.EachRecord(func(r *kgo.Record) {
		record := Record{At: At{Topic: r.Topic, Partition: r.Partition}, Offset: r.Offset,
			Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, Header{Key: h.Key, Value: h.Value})
		}
		got = append(got, record)
	})
	return got
}

type reader struct{ *kgo.Client }

func (c *client) Reader(isolation string, from map[At]int64) (Reader, error) {
	offsets := map[string]map[int32]kgo.Offset{}
	for at, offset := range from {
		if offsets[at.Topic] == nil {
			offsets[at.Topic] = map[int32]kgo.Offset{}
		}
		offsets[at.Topic][at.Partition] = kgo.NewOffset().At(offset)
	}
	level := kgo.ReadUncommitted()
	if isolation == "read_committed" {
		level = kgo.ReadCommitted()
	}
	return reader{Must(kgo.NewClient(c.seeds, kgo.ConsumePartitions(offsets), kgo.FetchIsolationLevel(level),
		kgo.ConsumeResetOffset(kgo.NoResetOffset())))}, nil
}

func (r reader) Poll(timeout time.Duration) ([]Record, error) {
	ctx, cancel := context.WithTimeout(background, timeout)
	defer cancel()
	fetches := r.PollFetches(ctx)
	for _, failed := range fetches.Errors() {
		if !errors.Is(failed.Err, context.DeadlineExceeded) {
			return nil, answered(failed.Err)
		}
	}
	return records(fetches), nil
}

func (c *client) Bounds(at At) (int64, int64) {
	begin, _ := Must(c.admin.ListStartOffsets(background, at.Topic)).Lookup(at.Topic, at.Partition)
	end, _ := Must(c.admin.ListEndOffsets(background, at.Topic)).Lookup(at.Topic, at.Partition)
	return Must(begin.Offset, begin.Err), Must(end.Offset, end.Err)
}

func (c *client) OffsetForTime(at At, timestamp int64) (int64, bool) {
	found, _ := Must(c.admin.ListOffsetsAfterMilli(background, timestamp, at.Topic)).Lookup(at.Topic, at.Partition)
	// kadm puts the end offset, without a timestamp, where the cluster found nothing.
	return Must(found.Offset, found.Err), found.Timestamp >= 0
}

type member struct {
	*kgo.Client
	mu       sync.Mutex
	got      []Record
	assigned map[At]bool
	done     chan struct{}
}

func (c *client) Member(group string, topics []string) Member {
	m := &member{assigned: map[At]bool{}, done: make(chan struct{})}
	set := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for topic, partitions := range changed {
				for _, p := range partitions {
					if owned {
						m.assigned[At{Topic: topic, Partition: p}] = true
					} else {
						delete(m.assigned, At{Topic: topic, Partition: p})
					}
				}
			}
		}
	}
	m.Client = Must(kgo.NewClient(c.seeds, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topics...), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10*time.Second),
		kgo.HeartbeatInterval(300*time.Millisecond), kgo.OnPartitionsAssigned(set(true)),
		kgo.OnPartitionsRevoked(set(false)), kgo.OnPartitionsLost(set(false))))
	go m.run()
	return m
}

func (m *member) run() {
	defer close(m.done)
	for {
		fetches := m.PollFetches(background)
		if fetches.IsClientClosed() {
			return
		}
		// The client retries by itself what it reports here; what stays broken shows as missing records.
		m.mu.Lock()
		m.got = append(m.got, records(fetches)...)
		m.mu.Unlock()
	}
}

func (m *member) Take() []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.got
	m.got = nil
	return taken
}

func (m *member) Assigned() []At {
	m.mu.Lock()
	defer m.mu.Unlock()
	var owned []At
	for at := range m.assigned {
		owned = append(owned, at)
	}
	return owned
}

func (m *member) Commit() { Must(0, m.CommitUncommittedOffsets(background)) }

func (m *member) Close() {
	m.Client.Close()
	<-m.done
}

func (c *client) Committed(group string, _ []string) map[At]int64 {
	offsets := map[At]int64{}
	Must(c.admin.FetchOffsets(background, group)).Each(func(o kadm.OffsetResponse) {
		offsets[At{Topic: o.Topic, Partition: o.Partition}] = Must(o.At, o.Err)
	})
	return offsets
}

func (c *client) Create(topic string, partitions int, configs map[string]string) error {
	wanted := map[string]*string{}
	for key, value := range configs {
		wanted[key] = &value
	}
	_, err := c.admin.CreateTopic(background, int32(partitions), -1, wanted, topic)
	return answered(err)
}

func (c *client) Delete(topic string) error {
	_, err := c.admin.DeleteTopic(background, topic)
	return answered(err)
}

func (c *client) Topics() map[string]bool {
	names := map[string]bool{}
	for _, name := range Must(c.admin.ListTopics(background)).Names() {
		names[name] = true
	}
	return names
}

func (c *client) Describe(topic string) (int, bool, error) {
	metadata := Must(c.admin.Metadata(background, topic))
	described := metadata.Topics[topic]
	if described.Err != nil {
		return 0, false, answered(described.Err)
	}
	led := true
	for _, p := range described.Partitions {
		led = led && slices.Contains(metadata.Brokers.NodeIDs(), p.Leader) &&
			slices.Contains(p.Replicas, p.Leader) && slices.Contains(p.ISR, p.Leader)
	}
	return len(described.Partitions), led, nil
}

func (c *client) Config(topic, key string) (string, error) {
	found, err := Must(c.admin.DescribeTopicConfigs(background, topic)).On(topic, nil)
	if err == nil {
		err = found.Err
	}
	for _, config := range found.Configs {
		if config.Key == key {
			return config.MaybeValue(), answered(err)
		}
	}
	return "", answered(err)
}

func (c *client) Groups() []string { return Must(c.admin.ListGroups(background)).Groups() }
