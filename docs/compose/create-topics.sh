#!/bin/bash
# Makes the two topics where they are not there yet. The broker stamps the records (LogAppendTime): the ledger's time must
# not be the producers' to choose. One partition for governance, because its order decides; metrics may have more later.
set -eu
topic() {
  name=$1 partitions=$2
  shift 2
  "$KAFKA_BIN/kafka-topics.sh" --bootstrap-server "$BROKER" --create --if-not-exists --topic "$name" \
    --partitions "$partitions" --replication-factor 1 --config message.timestamp.type=LogAppendTime --config cleanup.policy=delete "$@"
}
topic llm-governance 1 --config retention.ms=-1
topic llm-requests 4 --config retention.ms=604800000
