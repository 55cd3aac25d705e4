{{- define "odradek.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Selector of all replicas. Must not change between versions of a release. */}}
{{- define "odradek.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of the chart override `commonLabels`, because selectors depend on them. */}}
{{- define "odradek.labels" -}}
{{- $own := fromYaml (include "odradek.selector" .) -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version) -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.commonLabels) $own) -}}
{{- end -}}

{{/* `metadata` of an object of this release. Parameters: root, name, and optionally zone, labels, annotations. */}}
{{- define "odradek.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
{{- $own := fromYaml (include "odradek.labels" .root) -}}
{{- with .zone -}}
{{- $_ := set $own "odradek/zone" . -}}
{{- end }}
labels: {{- toYaml (mergeOverwrite (deepCopy (default dict .labels)) $own) | nindent 2 }}
{{- with .annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "odradek.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "odradek.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "odradek.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The configuration of replicas: values that only the chart knows, overridden by `config`. */}}
{{- define "odradek.config" -}}
{{- $own := dict
  "zone" "${ODRADEK_ZONE:?the zone of this replica}"
  "replica" "${POD_NAME:?the name of this pod}"
  "listeners" (dict "bind" "0.0.0.0" "advertisedHost" "${POD_IP:?the address of this pod}" "bootstrapPort" 9092 "brokerPorts" 9100 "nodePorts" 9300)
  "peers" (dict "bind" "0.0.0.0:8190" "advertisedHost" "${POD_IP:?the address of this pod}")
  "admin" (dict "bind" "0.0.0.0:8180") -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.config)) -}}
{{- end -}}

{{/* The port at the end of an address of the configuration. */}}
{{- define "odradek.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{/* The ports of brokers and of diskless nodes, each as `first last`: brokers have those up to the
     nodes'. Fails when the admin port or that of the peers is one of them, because clients may
     connect to all of them. */}}
{{- define "odradek.kafkaPorts" -}}
{{- $config := fromYaml (include "odradek.config" .) -}}
{{- $brokers := int $config.listeners.brokerPorts -}}
{{- $nodes := int $config.listeners.nodePorts -}}
{{- $brokersEnd := ternary (sub $nodes 1) 65535 (gt $nodes $brokers) | int -}}
{{- $nodesEnd := min (add $nodes 63) 65535 | int -}}
{{- range $key, $bind := dict "admin.bind" $config.admin.bind "peers.bind" $config.peers.bind -}}
{{- $port := include "odradek.port" $bind | int -}}
{{- if and (ge $port $brokers) (le $port $brokersEnd) -}}
{{- fail (printf "config.%s: port %d is one of the ports of brokers (%d-%d); choose a port outside" $key $port $brokers $brokersEnd) -}}
{{- else if and (ge $port $nodes) (le $port $nodesEnd) -}}
{{- fail (printf "config.%s: port %d is one of the ports of diskless nodes (%d-%d); choose a port outside" $key $port $nodes $nodesEnd) -}}
{{- end -}}
{{- end -}}
{{- toYaml (list (dict "port" $brokers "endPort" $brokersEnd) (dict "port" $nodes "endPort" $nodesEnd)) -}}
{{- end -}}

{{/* The configuration of a sidecar: no store, no nodes, listeners on loopback. */}}
{{- define "odradek.sidecarConfig" -}}
{{- $shared := omit (deepCopy .Values.config) "store" "s3" "flush" "listeners" "peers" "admin" "memory" "clients" -}}
{{- $own := dict
  "writer" "off"
  "zone" (default "${ODRADEK_ZONE:?the zone of this pod}" .Values.sidecar.zone)
  "replica" "${POD_NAME:?the name of this pod}"
  "listeners" (dict "bind" "127.0.0.1" "bootstrapPort" 9092 "brokerPorts" 9100)
  "admin" (dict "bind" "0.0.0.0:8180") -}}
{{- if .Values.sidecar.memory -}}
{{- $_ := set $own "memory" .Values.sidecar.memory -}}
{{- end -}}
{{- toYaml (mergeOverwrite $shared $own) -}}
{{- end -}}

{{- define "odradek.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "odradek.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The environment of replicas and of `helm test`. Parameters: root, zone, test. */}}
{{- define "odradek.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- if and (eq .root.Values.zoneSource "podLabel") (not .test) }}
- name: ODRADEK_ZONE
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
{{- else if or (eq .root.Values.zoneSource "value") .test }}
- name: ODRADEK_ZONE
  value: {{ .zone | quote }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "odradek.mounts" -}}
- {name: config, mountPath: /etc/odradek, readOnly: true}
{{- range .Values.secretFiles }}
- {name: {{ printf "secret-%s" .name }}, mountPath: {{ printf "/run/secrets/%s" .name }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* Parameters: root, test. A test reads the configuration unchanged, without a lookup of its node. */}}
{{- define "odradek.volumes" -}}
{{- if and (eq .root.Values.zoneSource "node") (not .test) -}}
- name: config
  emptyDir: {sizeLimit: 16Mi}
- name: template
  configMap: {name: {{ include "odradek.fullname" .root }}}
# Credentials of the init container for the Kubernetes API; not mounted in Odradek's own container.
- name: api
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- else -}}
- name: config
  configMap: {name: {{ include "odradek.fullname" .root }}}
{{- end }}
{{- range .root.Values.secretFiles }}
- name: {{ printf "secret-%s" .name }}
  secret: {secretName: {{ .name }}}
{{- end }}
{{- end -}}

{{/* Checks that a JSON schema cannot express. */}}
{{- define "odradek.check" -}}
{{- if and (eq .Values.zoneSource "podLabel") (semverCompare "<1.35.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "zoneSource podLabel requires Kubernetes 1.35, found %s; use value or node" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if and (eq .Values.zoneSource "node") (not .Values.zoneLookup.image) -}}
{{- fail "zoneSource node requires zoneLookup.image: an image with sh, sed and kubectl" -}}
{{- end -}}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled -}}
{{- fail "metrics.podMonitor and metrics.serviceMonitor are both enabled, which scrapes every replica twice; enable one" -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.zones -}}
{{- if has .name $names -}}
{{- fail (printf "zones contains %s twice" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}

{{/* Prefers endpoints in the client's zone, in the spelling of this Kubernetes version. */}}
{{- define "odradek.trafficDistribution" -}}
{{- $value := .Values.service.trafficDistribution -}}
{{- if ne $value "auto" -}}
{{- $value -}}
{{- else if semverCompare ">=1.35.0-0" .Capabilities.KubeVersion.Version -}}
PreferSameZone
{{- else if semverCompare ">=1.31.0-0" .Capabilities.KubeVersion.Version -}}
PreferClose
{{- end -}}
{{- end -}}
