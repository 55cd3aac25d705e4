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

{{- define "odradek.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "odradek.labels" -}}
{{ include "odradek.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
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

{{/* The replicas' configuration: the user's, with what only the chart knows below it. */}}
{{- define "odradek.config" -}}
{{- $own := dict
  "zone" "${ODRADEK_ZONE:?the zone of this replica}"
  "replica" "${POD_NAME:?the name of this pod}"
  "listeners" (dict "bind" "0.0.0.0" "advertisedHost" "${POD_IP:?the address of this pod}" "bootstrapPort" 9092 "brokerPorts" 9100 "nodePorts" 9300)
  "peers" (dict "bind" "0.0.0.0:9190" "advertisedHost" "${POD_IP:?the address of this pod}")
  "admin" (dict "bind" "0.0.0.0:9180") -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.config)) -}}
{{- end -}}

{{/* The port at the end of an address of the configuration. */}}
{{- define "odradek.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{/* A sidecar's configuration: no store, no nodes, nobody but its own pod. */}}
{{- define "odradek.sidecarConfig" -}}
{{- $shared := omit (deepCopy .Values.config) "store" "s3" "flush" "listeners" "peers" "admin" "memory" "clients" -}}
{{- $own := dict
  "writer" "off"
  "zone" (default "${ODRADEK_ZONE:?the zone of this pod}" .Values.sidecar.zone)
  "replica" "${POD_NAME:?the name of this pod}"
  "listeners" (dict "bind" "127.0.0.1" "bootstrapPort" 9092 "brokerPorts" 9100)
  "admin" (dict "bind" "0.0.0.0:9180") -}}
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

{{/* Environment and mounts, the same for replicas and for `helm test`. Takes root and zone. */}}
{{- define "odradek.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: ODRADEK_ZONE
{{- if and (eq .root.Values.zoneSource "podLabel") (not .test) }}
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
{{- else }}
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

{{- define "odradek.volumes" -}}
- name: config
  configMap: {name: {{ include "odradek.fullname" . }}}
{{- range .Values.secretFiles }}
- name: {{ printf "secret-%s" .name }}
  secret: {secretName: {{ .name }}}
{{- end }}
{{- end -}}
