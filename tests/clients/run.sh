#!/usr/bin/env bash
# One client's transcript on stdout: run.sh CLIENT BOOTSTRAP RUN DISKLESS CLASSIC
# Also `run.sh topics create|delete BOOTSTRAP NAME...` for the harness, and for fault tests
# `run.sh loop-producer ...`, `run.sh loop-producer-java ...` and `run.sh read-all ...`, whose arguments are in their files.
# setup.sh must have been run.
set -euo pipefail
. "$(dirname "$0")/common.sh"
client=$1
shift
unit=$(unit_of "$client") || { echo "no client '$client'" >&2; exit 64; }
at=$(dir_of "$unit")
# Short-lived JVMs on few cores: the second compiler costs more than it saves.
jvm() { exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m -Dfile.encoding=UTF-8 -cp "$at/classes:$at/lib/*" "$@"; }
python() { export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1; exec "$at/venv/bin/python" "$here/python/$1.py" "${@:2}"; }

case $client in
  topics) jvm Topics "$@" ;;
  loop-producer) python loop_producer "$@" ;;
  loop-producer-java) jvm LoopProducer "$@" ;;
  read-all) python read_all "$@" ;;
  java | java-2.8) jvm Script "$@" ;;
  java-consumer) export GROUP_PROTOCOL=consumer; jvm Script "$@" ;;
  streams) jvm WordCount "$@" ;;
  console) export CLASSPATH="$at/classes:$at/lib/*"; exec "$here/shell/console.sh" "$@" ;;
  confluent-kafka) python script confluent "$@" ;;
  confluent-kafka-consumer) export GROUP_PROTOCOL=consumer; python script confluent "$@" ;;
  kafka-python) python script kafka_python "$@" ;;
  aiokafka) python script aiokafka "$@" ;;
  franz-go) exec "$at/franz" "$@" ;;
  sarama) exec "$at/sarama" "$@" ;;
  kafkajs) exec node --no-deprecation "$at/script.js" "$@" ;;
  kcat) exec "$here/shell/kcat.sh" "$@" ;;
esac
