{{/* What a pod reads and writes: (dict "root" ROOT "role" leader-or-follower). */}}

{{/* Secrets by the directory that they are mounted at. As JSON: {"tls": "SECRET", ...}. */}}
{{- define "yoio.secrets" -}}
{{- $v := .root.Values -}}
{{- $secrets := dict -}}
{{- if eq .role "leader" -}}
{{- if $v.tls.enabled -}}
{{- $_ := set $secrets "tls" $v.tls.secret -}}
{{- if and $v.tls.clientCertificates $v.tls.clientCaSecret -}}
{{- $_ := set $secrets "client-ca" $v.tls.clientCaSecret -}}
{{- end -}}
{{- end -}}
{{- if $v.apiKeys.secret -}} {{- $_ := set $secrets "api-keys" $v.apiKeys.secret -}} {{- end -}}
{{- if $v.admin.enabled -}} {{- $_ := set $secrets "admin" $v.admin.tokenSecret -}} {{- end -}}
{{- end -}}
{{- if gt (int $v.nodes) 1 -}}
{{- $_ := set $secrets "followers" $v.followers.tokenSecret -}}
{{- if $v.followers.tls.enabled -}} {{- $_ := set $secrets "followers-tls" $v.followers.tls.secret -}} {{- end -}}
{{- end -}}
{{- toJson $secrets -}}
{{- end -}}

{{/* Those of them that the guard has and the server has not. */}}
{{- define "yoio.guardOnlySecrets" -}}
tls client-ca
{{- end -}}

{{- define "yoio.volumes" -}}
{{- $v := .root.Values -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
# The flight recorder's dumps outlive the container, not the pod.
- name: state
  emptyDir: {sizeLimit: 256Mi}
{{- if gt (int $v.tensorParallelSize) 1 }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ $v.sharedMemory.size }}
{{- end }}
{{- if eq $v.model.source "claim" }}
- name: model
  persistentVolumeClaim:
    claimName: {{ $v.model.claim.name }}
    readOnly: true
{{- else if eq $v.model.source "download" }}
- name: model
  {{- if $v.model.download.claim }}
  persistentVolumeClaim:
    claimName: {{ $v.model.download.claim }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ $v.model.download.sizeLimit }}
  {{- end }}
{{- with $v.model.download.tokenSecret }}
- name: download-token
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- if include "yoio.configData" .root }}
- name: config
  configMap:
    name: {{ include "yoio.fullname" .root }}
{{- end }}
{{- range $directory, $secret := include "yoio.secrets" . | fromJson }}
- name: {{ $directory }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 0440
{{- end }}
{{- with $v.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The server's. Whole directories: a file mounted by itself would never see its Secret renewed. */}}
{{- define "yoio.volumeMounts" -}}
{{- $v := .root.Values -}}
- {name: tmp, mountPath: /tmp}
- {name: state, mountPath: /var/lib/yoio}
{{- if gt (int $v.tensorParallelSize) 1 }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}
{{- if ne $v.model.source "image" }}
- name: model
  mountPath: {{ include "yoio.modelDirectory" .root }}
  {{- if eq $v.model.source "download" }}
  subPath: {{ include "yoio.downloadSubPath" .root }}
  {{- else if $v.model.claim.subPath }}
  subPath: {{ $v.model.claim.subPath }}
  {{- end }}
  readOnly: true
{{- end }}
{{- if $v.model.configOverride }}
- {name: config, mountPath: /etc/yoio/model, readOnly: true}
{{- end }}
{{- $guarded := ternary (splitList " " (include "yoio.guardOnlySecrets" .root)) list $v.guard.enabled }}
{{- range $directory, $secret := include "yoio.secrets" . | fromJson }}
{{- if not (has $directory $guarded) }}
- {name: {{ $directory }}, mountPath: /etc/yoio/{{ $directory }}, readOnly: true}
{{- end }}
{{- end }}
{{- with $v.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The release's ConfigMap: files by name. Empty when nothing needs one. */}}
{{- define "yoio.configData" -}}
{{- if .Values.model.configOverride }}
override.json: |
  {{- toPrettyJson .Values.model.configOverride | nindent 2 }}
{{- end }}
{{- if eq .Values.model.source "download" }}
download.sh: |
  {{- .Files.Get "files/download.sh" | nindent 2 }}
SHA256SUMS: |
  {{- range $path, $sum := .Values.model.download.files }}
  {{ $sum }}  {{ $path }}
  {{- end }}
{{- end }}
{{- if .Values.guard.enabled }}
envoy.yaml: |
  {{- include "yoio.guardConfig" . | nindent 2 }}
{{- if .Values.tls.enabled }}
{{- include "yoio.guardSecrets" . | nindent 0 }}
{{- end }}
{{- end }}
{{- end -}}
