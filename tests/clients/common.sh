# Sourced: where things are, and which toolchain ("unit") serves which client.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ODRADEK_CACHE:-$HOME/.cache/odradek}/clients

unit_of() {
  case $1 in
    java | java-consumer | console | streams | topics | loop-producer-java) echo jvm ;;
    java-2.8) echo jvm-2.8 ;;
    confluent-kafka | confluent-kafka-consumer | kafka-python | aiokafka | loop-producer | read-all) echo python ;;
    franz-go | sarama) echo go ;;
    kafkajs) echo node ;;
    kcat) echo kcat ;;
    *) return 1 ;;
  esac
}

# The inputs of a unit: it is rebuilt when one of them changes.
inputs_of() {
  case $1 in
    jvm) echo java/pom.xml java/src java/compat-4 ;;
    jvm-2.8) echo java/pom.xml java/src java/compat-2 ;;
    python) echo python/requirements.txt ;;
    go) echo go ;;
    node) echo kafkajs ;;
    kcat) ;; # Debian's, nothing of ours
  esac
}

# A unit's folder carries the hash of its inputs: checkouts that differ can share the cache, even at the same time.
dir_of() {
  local hash
  hash=$(cd "$here" && find setup.sh $(inputs_of "$1") -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  echo "$cache/$1-${hash:0:12}"
}
