#!/usr/bin/env bash
# Runs one of Kafka's console tools by its usual name.
#   kafka-tool.sh kafka-topics --bootstrap-server 127.0.0.1:9092 --list
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

case ${1:?the name of a tool, such as kafka-topics} in
  kafka-topics) class=org.apache.kafka.tools.TopicCommand ;;
  kafka-console-producer) class=org.apache.kafka.tools.ConsoleProducer ;;
  kafka-console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
  kafka-configs) class=kafka.admin.ConfigCommand ;;
  kafka-consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
  kafka-get-offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
  kafka-dump-log) class=org.apache.kafka.tools.DumpLogSegments ;;
  kafka-delete-records) class=org.apache.kafka.tools.DeleteRecordsCommand ;;
  kafka-broker-api-versions) class=org.apache.kafka.tools.BrokerApiVersionsCommand ;;
  kafka-verifiable-producer) class=org.apache.kafka.tools.VerifiableProducer ;;
  kafka-producer-perf-test) class=org.apache.kafka.tools.ProducerPerformance ;;
  *) die "unknown tool '$1'" ;;
esac
shift
[ -d "$kafka_libs" ] || die "Apache Kafka $kafka_version is missing; run: make setup"
exec java -Xmx256m "${quick_jvm[@]}" -Dorg.slf4j.simpleLogger.defaultLogLevel="${TOOL_LOG:-warn}" \
  -cp "$kafka_libs/*" "$class" "$@"
