// sarama.
package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	. "odradek/tests/clients/script"
)

func main() {
	Main(func(bootstrap string) Client {
		c := &client{bootstrap: []string{bootstrap}}
		c.client = Must(sarama.NewClient(c.bootstrap, c.config()))
		c.admin = Must(sarama.NewClusterAdminFromClient(c.client))
		return c
	})
}

// answered turns the library's error for an answer of the cluster into ours.
func answered(err error) error {
	var kafka sarama.KError
	var topic *sarama.TopicError
	switch {
	case errors.As(err, &topic):
		return KafkaError(topic.Err)
	case errors.As(err, &kafka):
		return KafkaError(kafka)
	}
	return err
}

type client struct {
	bootstrap []string
	client    sarama.Client
	admin     sarama.ClusterAdmin
}

func (c *client) config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Consumer.MaxWaitTime = 100 * time.Millisecond // closing a consumer waits for its fetch
	return config
}

func (c *client) Codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }
func (c *client) Close()           { Must(0, c.admin.Close()) }

// producer collects until Flush, so that one call carries both topics.
type producer struct {
	sarama.SyncProducer
	messages []*sarama.ProducerMessage
}

func (c *client) Producer(o ProducerOptions) Producer {
	config := c.config()
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.MaxMessageBytes = o.MaxBatch
	config.Producer.RequiredAcks = map[string]sarama.RequiredAcks{"all": sarama.WaitForAll, "1": sarama.WaitForLocal, "0": sarama.NoResponse}[o.Acks]
	config.Producer.Compression = map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}[o.Codec]
	config.Producer.Idempotent = o.Idempotent
	if o.Idempotent {
		config.Net.MaxOpenRequests = 1 // sarama insists
	}
	return &producer{SyncProducer: Must(sarama.NewSyncProducer(c.bootstrap, config))}
}

// encoder keeps null and empty apart: a nil interface is null.
func encoder(value []byte) sarama.Encoder {
	if value == nil {
		return nil
	}
	return sarama.ByteEncoder(value)
}

func (p *producer) Send(r Record) *Sent {
	sent := &Sent{}
	message := &sarama.ProducerMessage{Topic: r.Topic, Partition: r.Partition, Timestamp: time.UnixMilli(r.Timestamp),
		Key: encoder(r.Key), Value: encoder(r.Value), Metadata: sent}
	for _, h := range r.Headers {
		message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
	}
	p.messages = append(p.messages, message)
	return sent
}

func (p *producer) Flush() {
	err := p.SendMessages(p.messages)
	for _, message := range p.messages {
		message.Metadata.(*Sent).Offset = message.Offset
	}
	p.messages = nil
	var failed sarama.ProducerErrors
	if errors.As(err, &failed) {
		for _, one := range failed {
			one.Msg.Metadata.(*Sent).Err = answered(one.Err)
		}
		return
	}
	Must(0, err)
}

func (p *producer) Close() { Must(0, p.SyncProducer.Close()) }

func record(m *sarama.ConsumerMessage) Record {
	r := Record{At: At{Topic: m.Topic, Partition: m.Partition}, Offset: m.Offset, Timestamp: m.Timestamp.UnixMilli(),
		Key: m.Key, Value: m.Value}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{Key: string(h.Key), Value: h.Value})
	}
	return r
}

type reader struct {
	sarama.Consumer
	parts []sarama.PartitionConsumer
	got   chan Record
	wg    sync.WaitGroup
}

func (c *client) Reader(isolation string, from map[At]int64) (Reader, error) {
	config := c.config()
	if isolation == "read_committed" {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	r := &reader{Consumer: Must(sarama.NewConsumer(c.bootstrap, config)), got: make(chan Record)}
	for at, offset := range from {
		part, err := r.ConsumePartition(at.Topic, at.Partition, offset)
		if err != nil {
			r.Close()
			return nil, answered(err)
		}
		r.parts = append(r.parts, part)
		r.wg.Go(func() {
			for message := range part.Messages() {
				r.got <- record(message)
			}
		})
	}
	return r, nil
}

func (r *reader) Poll(timeout time.Duration) ([]Record, error) {
	var got []Record
	deadline := time.After(timeout)
	for {
		select {
		case one := <-r.got:
			got = append(got, one)
			// The rest of a fetch follows at once; when nothing does, there is no point in waiting on.
			deadline = time.After(20 * time.Millisecond)
		case <-deadline:
			return got, nil
		}
	}
}

func (r *reader) Close() {
	for _, part := range r.parts {
		part.AsyncClose()
	}
	go func() {
		for range r.got { // what was fetched and never asked for
		}
	}()
	r.wg.Wait()
	close(r.got)
	Must(0, r.Consumer.Close())
}

func (c *client) Bounds(at At) (int64, int64) {
	return Must(c.client.GetOffset(at.Topic, at.Partition, sarama.OffsetOldest)),
		Must(c.client.GetOffset(at.Topic, at.Partition, sarama.OffsetNewest))
}

func (c *client) OffsetForTime(at At, timestamp int64) (int64, bool) {
	offset := Must(c.client.GetOffset(at.Topic, at.Partition, timestamp))
	return offset, offset >= 0
}

type member struct {
	group   sarama.ConsumerGroup
	mu      sync.Mutex
	got     []Record
	session sarama.ConsumerGroupSession
	cancel  context.CancelFunc
	done    chan struct{}
}

func (c *client) Member(group string, topics []string) Member {
	config := c.config()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	m := &member{group: Must(sarama.NewConsumerGroup(c.bootstrap, group, config)), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			// Consume ends at every rebalance; to go on is to call it again.
			if err := m.group.Consume(ctx, topics, m); err != nil && ctx.Err() == nil {
				panic(err)
			}
		}
	}()
	return m
}

func (m *member) setSession(session sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = session
	return nil
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error { return m.setSession(session) }
func (m *member) Cleanup(sarama.ConsumerGroupSession) error       { return m.setSession(nil) }

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.mu.Lock()
		m.got = append(m.got, record(message))
		session.MarkMessage(message, "")
		m.mu.Unlock()
	}
	return nil
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
	if m.session != nil {
		for topic, partitions := range m.session.Claims() {
			for _, p := range partitions {
				owned = append(owned, At{Topic: topic, Partition: p})
			}
		}
	}
	return owned
}

func (m *member) Commit() {
	m.mu.Lock()
	session := m.session
	m.mu.Unlock()
	session.Commit()
}

func (m *member) Close() {
	m.cancel()
	<-m.done
	Must(0, m.group.Close())
}

func (c *client) Committed(group string, topics []string) map[At]int64 {
	wanted := map[string][]int32{}
	for _, topic := range topics {
		wanted[topic] = []int32{0, 1, 2}
	}
	offsets := map[At]int64{}
	for topic, blocks := range Must(c.admin.ListConsumerGroupOffsets(group, wanted)).Blocks {
		for p, block := range blocks {
			offsets[At{Topic: topic, Partition: p}] = block.Offset
		}
	}
	return offsets
}

func (c *client) Create(topic string, partitions int, configs map[string]string) error {
	wanted := map[string]*string{}
	for key, value := range configs {
		wanted[key] = &value
	}
	return answered(c.admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: -1, ConfigEntries: wanted}, false))
}

func (c *client) Delete(topic string) error { return answered(c.admin.DeleteTopic(topic)) }

func (c *client) Topics() map[string]bool {
	names := map[string]bool{}
	for name := range Must(c.admin.ListTopics()) {
		names[name] = true
	}
	return names
}

func (c *client) Describe(topic string) (int, bool, error) {
	described := Must(c.admin.DescribeTopics([]string{topic}))[0]
	if described.Err != sarama.ErrNoError {
		return 0, false, KafkaError(described.Err)
	}
	brokers, _, err := c.admin.DescribeCluster()
	Must(0, err)
	led := true
	for _, p := range described.Partitions {
		known := slices.ContainsFunc(brokers, func(b *sarama.Broker) bool { return b.ID() == p.Leader })
		led = led && known && slices.Contains(p.Replicas, p.Leader) && slices.Contains(p.Isr, p.Leader)
	}
	return len(described.Partitions), led, nil
}

func (c *client) Config(topic, key string) (string, error) {
	entries, err := c.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	for _, entry := range entries {
		if entry.Name == key {
			return entry.Value, answered(err)
		}
	}
	return "", answered(err)
}

func (c *client) Groups() []string {
	var groups []string
	for group := range Must(c.admin.ListConsumerGroups()) {
		groups = append(groups, group)
	}
	return groups
}
