// What a backfill does to those who share its replica.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// backfill is the subcommand: BOOTSTRAP TAIL_TOPIC HISTORY_TOPIC. A producer of 100 records a second
// and a consumer of the tail run all the time; first alone, then while groups replay the history,
// then alone again. It prints a line of name=value for each of the three.
func backfill(arguments []string) {
	flags := flag.NewFlagSet("backfill", flag.ExitOnError)
	seconds := flags.Float64("seconds", 10, "how long each part without a backfill is")
	groups := flags.Int("groups", 5, "how many read the history at once")
	records := flags.Int("records", 0, "how many it has")
	objects := flags.Float64("objects", 0, "in how many objects they lie")
	pid := flags.Int("pid", os.Getpid(), "the replica whose CPU time is taken")
	s3 := flags.String("s3", "", "host:port of the slow-s3 behind the replica")
	flags.Parse(arguments)
	bootstrap, topic, history := flags.Arg(0), flags.Arg(1), flags.Arg(2)

	t := newTailer(100)
	t.read("tail", bootstrap, topic)
	ctx, stop := context.WithCancel(context.Background())
	var producing sync.WaitGroup
	producing.Go(func() { t.produce(ctx, bootstrap, topic) })
	t.awaitReaders()
	time.Sleep(2 * time.Second)

	alone := func() span {
		begin := t.now()
		time.Sleep(time.Duration(*seconds * float64(time.Second)))
		return span{begin, t.now()}
	}
	windows := []span{alone()}
	begin := t.now()
	// Nobody runs his batch jobs on the machine of the replica: with the lowest priority they take
	// little of the time that it would have without them.
	job := exec.Command("nice", "-n", "19", os.Args[0], "replay", "-groups", fmt.Sprint(*groups),
		"-records", fmt.Sprint(*records), "-objects", fmt.Sprint(*objects), "-pid", fmt.Sprint(*pid),
		"-s3", *s3, bootstrap, history)
	job.Stderr = os.Stderr
	replayed, err := job.Output()
	if err != nil {
		fail("the replay: %v", err)
	}
	during := span{begin, t.now()}
	time.Sleep(time.Second)
	windows = append(windows, during, alone())
	stop()
	producing.Wait()
	t.awaitAll(10 * time.Second)
	for i, more := range []string{"", string(replayed), ""} {
		fmt.Println(t.figures("tail", windows[i]), strings.TrimSpace(more))
	}
}
