// Package script is the script of ../../README.md for the Go clients: it knows what to do, a Client how to say it.
package script

import (
	"fmt"
	"time"
)

// At is a partition; Record what was read there.
type At struct {
	Topic     string
	Partition int32
}

type Header struct {
	Key   string
	Value []byte
}

type Record struct {
	At
	Offset, Timestamp int64
	Key, Value        []byte
	Headers           []Header
}

// KafkaError is an error the cluster answered, by its number in the Kafka protocol.
type KafkaError int16

func (e KafkaError) Error() string { return fmt.Sprintf("Kafka error %d", int16(e)) }

type ProducerOptions struct {
	Idempotent bool
	Acks       string // "all", "1" or "0"
	Codec      string
	MaxBatch   int
}

// Sent is the fate of one record, known after Flush.
type Sent struct {
	Offset int64
	Err    error
}

type Producer interface {
	Send(Record) *Sent
	Flush()
	Close()
}

type Reader interface {
	Poll(time.Duration) ([]Record, error)
	Close()
}

// Member is a member of a group; it polls by itself.
type Member interface {
	Take() []Record
	Assigned() []At
	Commit()
	Close()
}

// Client is one library. Errors of the cluster come back as KafkaError; anything unexpected may panic.
type Client interface {
	Codecs() []string
	Producer(ProducerOptions) Producer
	Reader(isolation string, from map[At]int64) (Reader, error)
	Bounds(At) (begin, end int64)
	OffsetForTime(At, int64) (offset int64, found bool)
	Member(group string, topics []string) Member
	Committed(group string, topics []string) map[At]int64

	Create(topic string, partitions int, configs map[string]string) error
	Delete(topic string) error
	Topics() map[string]bool
	Describe(topic string) (partitions int, led bool, err error)
	Config(topic, key string) (string, error)
	Groups() []string
	Close()
}

// Must ends the program: exit code 2 and a trace, never a line in the transcript.
func Must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
