package script

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	partitions     = 3
	firstTimestamp = 1_000_000
	timestampStep  = 10
	smallBatch     = 1_000_000 // fits max.message.bytes
	hugeBatch      = 3_000_000 // does not: the broker must say so, not the client
)

var kinds = []string{"diskless", "classic"}

type script struct {
	client Client
	run    string
	names  map[string]string
	all    []At
	labels map[At]string
	// The next offset of every partition: the program is the only writer, so it knows.
	next map[At]int64
}

// Main is the program: BOOTSTRAP RUN DISKLESS CLASSIC.
func Main(connect func(bootstrap string) Client) {
	bootstrap, run := os.Args[1], os.Args[2]
	s := &script{
		client: connect(bootstrap), run: run,
		names:  map[string]string{"diskless": os.Args[3], "classic": os.Args[4]},
		labels: map[At]string{}, next: map[At]int64{},
	}
	for _, kind := range kinds {
		for p := range int32(partitions) {
			at := At{s.names[kind], p}
			s.all = append(s.all, at)
			s.labels[at] = fmt.Sprintf("%s p%d", kind, p)
			s.next[at] = 0
		}
	}
	s.codecs()
	s.acks()
	s.shapes()
	s.large()
	s.offsets()
	s.read("read_uncommitted")
	s.read("read_committed")
	s.seek()
	s.group()
	s.admin()
	s.client.Close()
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func text(value []byte) string {
	switch {
	case value == nil:
		return "null"
	case len(value) > 100:
		return fmt.Sprintf("%d#%s", len(value), sha(value))
	}
	return string(value)
}

func sha(value []byte) string {
	digest := sha256.Sum256(value)
	return fmt.Sprintf("%x", digest[:8])
}

func canonical(r Record) string {
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, h.Key+"="+text(h.Value))
	}
	return fmt.Sprintf("%d|%d|%s|%s|%s", r.Offset, r.Timestamp, text(r.Key), text(r.Value), strings.Join(headers, ","))
}

func digest(records []Record) string {
	var lines bytes.Buffer
	for _, r := range records {
		lines.WriteString(canonical(r) + "\n")
	}
	return sha(lines.Bytes())
}

// outcome is "ok", or Kafka's error code.
func outcome(err error) string {
	var kafka KafkaError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &kafka):
		return fmt.Sprintf("error=%d", int16(kafka))
	}
	panic(err)
}

func consecutive(offsets []int64, first int64) string {
	for i, offset := range offsets {
		if offset != first+int64(i) {
			return fmt.Sprint(offsets, " WRONG")
		}
	}
	return fmt.Sprintf("%d..%d ok", offsets[0], offsets[len(offsets)-1])
}

// await polls until done says so; what is said to be late is an internal failure.
func await(what string, limit time.Duration, done func() bool) {
	for deadline := time.Now().Add(limit); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			panic("gave up waiting: " + what)
		}
	}
}

// ---- producing

func (s *script) numbered(at At, key, value []byte) Record {
	n := s.next[at]
	s.next[at]++
	return Record{At: at, Timestamp: firstTimestamp + timestampStep*n, Key: key, Value: value}
}

func (s *script) sendNext(producer Producer, at At) *Sent {
	n := s.next[at]
	return producer.Send(s.numbered(at, fmt.Appendf(nil, "k%d", n), fmt.Appendf(nil, "%s n%d", s.labels[at], n)))
}

func offset(sent *Sent) int64 { return Must(sent.Offset, sent.Err) }

// fill sends `count` records to every partition, both topics mixed; returns the offsets acknowledged.
func (s *script) fill(producer Producer, count int) map[At][]int64 {
	sent := map[At][]*Sent{}
	for range count {
		for _, at := range s.all {
			sent[at] = append(sent[at], s.sendNext(producer, at))
		}
	}
	producer.Flush()
	offsets := map[At][]int64{}
	for at, handles := range sent {
		for _, one := range handles {
			offsets[at] = append(offsets[at], offset(one))
		}
	}
	return offsets
}

func (s *script) codecs() {
	for _, codec := range s.client.Codecs() {
		first := maps.Clone(s.next)
		producer := s.client.Producer(ProducerOptions{true, "all", codec, smallBatch})
		offsets := s.fill(producer, 10)
		// A second flush: the sequence numbers must go on from the first batch's.
		more := s.fill(producer, 10)
		producer.Close()
		for _, at := range s.all {
			got := consecutive(append(offsets[at], more[at]...), first[at])
			say("produce idempotent acks=all %s %s offsets %s", codec, s.labels[at], got)
		}
	}
}

func (s *script) acks() {
	for _, acks := range []string{"1", "0"} {
		first := maps.Clone(s.next)
		producer := s.client.Producer(ProducerOptions{false, acks, "none", smallBatch})
		offsets := s.fill(producer, 5)
		producer.Close()
		for _, at := range s.all {
			if acks == "1" {
				say("produce acks=1 %s offsets %s", s.labels[at], consecutive(offsets[at], first[at]))
				continue
			}
			// acks=0 is answered by nobody: the end offset tells when it has arrived.
			var end int64
			await("acks=0", 10*time.Second, func() bool { _, end = s.client.Bounds(at); return end >= s.next[at] })
			say("produce acks=0 %s end %d", s.labels[at], end)
		}
	}
}

func (s *script) shapes() {
	shapes := []struct{ key, value []byte }{
		{nil, []byte("no key")}, {[]byte("no value"), nil}, {[]byte("empty value"), []byte{}},
		{[]byte{}, []byte("empty key")}, {[]byte("ключ"), []byte("žluťoučký")},
	}
	headers := []Header{{"a", []byte("1")}, {"a", []byte("2")}, {"b", nil}, {"c", []byte{}}}
	producer := s.client.Producer(ProducerOptions{true, "all", "none", smallBatch})
	for _, kind := range kinds {
		at := At{s.names[kind], 0}
		first := s.next[at]
		for _, shape := range shapes {
			sent := producer.Send(s.numbered(at, shape.key, shape.value))
			producer.Flush()
			offset(sent)
		}
		last := s.numbered(at, []byte("k"), []byte("headers"))
		last.Headers = headers
		sent := producer.Send(last)
		producer.Flush()
		offset(sent)
		records, err := s.readFrom(at, first, s.next[at])
		for _, r := range Must(records, err) {
			say("shape %s %s", s.labels[at], canonical(r))
		}
	}
	producer.Close()
}

func large(size int, n int64) []byte {
	value := make([]byte, size)
	for i := range value {
		value[i] = byte((int64(i)*31 + n) % 251)
	}
	return value
}

func (s *script) large() {
	producer := s.client.Producer(ProducerOptions{true, "all", "none", smallBatch})
	for _, kind := range kinds {
		at := At{s.names[kind], 1}
		var sent []*Sent
		for range 4 {
			sent = append(sent, producer.Send(s.numbered(at, nil, large(900_000, s.next[at]))))
		}
		producer.Flush()
		for _, one := range sent {
			say("large %s offset %d", s.labels[at], offset(one))
		}
	}
	producer.Close()
	producer = s.client.Producer(ProducerOptions{false, "all", "none", hugeBatch})
	for _, kind := range kinds {
		at := At{s.names[kind], 1}
		sent := producer.Send(Record{At: at, Timestamp: firstTimestamp, Value: large(1_200_000, 0)})
		producer.Flush()
		say("too large %s %s", s.labels[at], outcome(sent.Err))
	}
	producer.Close()
}

// ---- reading

func (s *script) readFrom(at At, from, end int64) ([]Record, error) {
	reader, err := s.client.Reader("read_uncommitted", map[At]int64{at: from})
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var got []Record
	await("records", 30*time.Second, func() bool {
		var batch []Record
		batch, err = reader.Poll(200 * time.Millisecond)
		got = append(got, batch...)
		return err != nil || len(got) > 0 && got[len(got)-1].Offset >= end-1
	})
	return got, err
}

func (s *script) offsets() {
	for _, at := range s.all {
		begin, end := s.client.Bounds(at)
		say("offsets %s begin=%d end=%d", s.labels[at], begin, end)
	}
}

func (s *script) read(isolation string) {
	// All six partitions at once: the fetcher must keep both kinds of leader busy.
	from, left := map[At]int64{}, int64(0)
	for _, at := range s.all {
		from[at] = 0
		left += s.next[at]
	}
	reader := Must(s.client.Reader(isolation, from))
	got := map[At][]Record{}
	await("all records", 30*time.Second, func() bool {
		for _, r := range Must(reader.Poll(200 * time.Millisecond)) {
			got[r.At] = append(got[r.At], r)
			left--
		}
		return left <= 0
	})
	reader.Close()
	for _, at := range s.all {
		var offsets []int64
		for _, r := range got[at] {
			offsets = append(offsets, r.Offset)
		}
		say("read %s %s offsets %s sha256=%s", isolation, s.labels[at], consecutive(offsets, 0), digest(got[at]))
	}
}

func (s *script) seek() {
	for _, kind := range kinds {
		at := At{s.names[kind], 1}
		firstAt := func(offset int64) int64 { return Must(s.readFrom(at, offset, 0))[0].Offset }
		for _, offset := range []int64{57, 0, s.next[at] - 1} {
			say("seek %s offset=%d read=%d", s.labels[at], offset, firstAt(offset))
		}
		// Exactly on a record, between two, before the first, after the last.
		for _, timestamp := range []int64{1_000_500, 1_000_495, 1, 9_999_999} {
			if offset, found := s.client.OffsetForTime(at, timestamp); found {
				say("seek-by-time %s ts=%d offset=%d read=%d", s.labels[at], timestamp, offset, firstAt(offset))
			} else {
				say("seek-by-time %s ts=%d none", s.labels[at], timestamp)
			}
		}
		_, err := s.readFrom(at, 1_000_000, 0)
		say("seek %s offset=1000000 %s", s.labels[at], outcome(err))
	}
}

// ---- the group

// awaitRecords takes exactly the records up to `next` from all members together: none lost, none twice, in order.
func (s *script) awaitRecords(position map[At]int64, members ...Member) string {
	got, count, wanted, order := map[At][]Record{}, int64(0), int64(0), "order ok"
	for _, at := range s.all {
		wanted += s.next[at] - position[at]
	}
	await("group records", 60*time.Second, func() bool {
		for _, member := range members {
			for _, r := range member.Take() {
				if r.Offset != position[r.At] {
					order = fmt.Sprintf("WRONG at %s %d", s.labels[r.At], r.Offset)
				}
				position[r.At] = r.Offset + 1
				got[r.At] = append(got[r.At], r)
				count++
			}
		}
		return count >= wanted
	})
	var inOrder []Record
	for _, at := range s.all {
		inOrder = append(inOrder, got[at]...)
	}
	return fmt.Sprintf("%d sha256=%s %s", count, digest(inOrder), order)
}

func (s *script) awaitAssignment(members ...Member) {
	await("assignment", 60*time.Second, func() bool {
		owned, total := map[At]bool{}, 0
		for _, member := range members {
			share := member.Assigned()
			if len(share) == 0 {
				return false
			}
			total += len(share)
			for _, at := range share {
				owned[at] = true
			}
		}
		return total == len(s.all) && len(owned) == len(s.all)
	})
}

func (s *script) topics() []string { return []string{s.names["diskless"], s.names["classic"]} }

func (s *script) committed(group string) {
	offsets := s.client.Committed(group, s.topics())
	for _, at := range s.all {
		say("group committed %s %d", s.labels[at], offsets[at])
	}
}

func (s *script) group() {
	group, position := s.run+"-group", map[At]int64{}
	producer := s.client.Producer(ProducerOptions{true, "all", "none", smallBatch})
	first := s.client.Member(group, s.topics())
	say("group first read %s", s.awaitRecords(position, first))
	first.Commit()
	first.Close()
	s.committed(group)

	s.fill(producer, 10)
	a := s.client.Member(group, s.topics())
	say("group resumed read %s", s.awaitRecords(position, a))
	a.Commit()

	b := s.client.Member(group, s.topics())
	s.awaitAssignment(a, b)
	say("group rebalance 2 members share %d partitions ok", len(s.all))
	s.fill(producer, 5)
	say("group two members read %s", s.awaitRecords(position, a, b))
	a.Commit()
	b.Commit()
	b.Close()

	s.awaitAssignment(a)
	s.fill(producer, 5)
	say("group takeover read %s", s.awaitRecords(position, a))
	a.Commit()
	a.Close()
	s.committed(group)
	producer.Close()
}

// ---- admin

func (s *script) listed(expected ...string) string {
	var found []string
	for range 100 {
		present := s.client.Topics()
		found = nil
		for _, kind := range kinds {
			for _, suffix := range []string{"", ".tmp"} {
				if present[s.names[kind]+suffix] {
					found = append(found, kind+suffix)
				}
			}
		}
		// A broker's metadata may lag behind the controller's answer.
		if slices.Equal(found, expected) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return strings.Join(found, ",")
}

// eventually: a broker that has not heard of a new topic yet says so; the next try asks another, or later.
func eventually(action func() error) {
	var err error
	for range 100 {
		if err = action(); err != KafkaError(3) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		panic(err)
	}
}

func (s *script) describe(topic string) string {
	var count int
	var led bool
	for range 100 {
		eventually(func() (err error) { count, led, err = s.client.Describe(topic); return err })
		if led {
			return fmt.Sprintf("partitions=%d leaders=ok", count)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Sprintf("partitions=%d leaders=WRONG", count)
}

func (s *script) config(topic, key string) string {
	var value string
	eventually(func() (err error) { value, err = s.client.Config(topic, key); return err })
	return key + "=" + value
}

func (s *script) admin() {
	for _, kind := range kinds {
		for range 2 {
			err := s.client.Create(s.names[kind]+".tmp", 2, map[string]string{"retention.ms": "86400000"})
			say("admin create %s.tmp %s", kind, outcome(err))
		}
	}
	say("admin list %s", s.listed("diskless", "diskless.tmp", "classic", "classic.tmp"))
	for _, kind := range kinds {
		topic, tmp := s.names[kind], s.names[kind]+".tmp"
		say("admin describe %s %s", kind, s.describe(topic))
		say("admin describe %s.tmp %s", kind, s.describe(tmp))
		say("admin config %s %s", kind, s.config(topic, "max.message.bytes"))
		say("admin config %s.tmp %s", kind, s.config(tmp, "retention.ms"))
	}
	for _, kind := range kinds {
		say("admin delete %s.tmp %s", kind, outcome(s.client.Delete(s.names[kind]+".tmp")))
	}
	say("admin list %s", s.listed("diskless", "classic"))
	for _, kind := range kinds {
		say("admin delete %s.tmp %s", kind, outcome(s.client.Delete(s.names[kind]+".tmp")))
	}
	mine := map[string]bool{}
	for _, group := range s.client.Groups() {
		if name, ours := strings.CutPrefix(group, s.run+"-"); ours {
			mine[name] = true
		}
	}
	say("admin groups %s", strings.Join(slices.Sorted(maps.Keys(mine)), ","))
}
