{{/* What follows from several values. All take the root context. */}}

{{- define "yoio.device" -}}
{{- if gt (int .Values.gpu.count) 0 -}} cuda {{- else -}} cpu {{- end -}}
{{- end -}}

{{- define "yoio.ranksPerPod" -}}
{{- div (int .Values.tensorParallelSize) (int .Values.nodes) -}}
{{- end -}}

{{/* Empty for false. */}}
{{- define "yoio.severalReplicas" -}}
{{- if .Values.autoscaling.enabled -}}
{{- if gt (int .Values.autoscaling.maxReplicas) 1 -}} true {{- end -}}
{{- else if gt (int .Values.replicas) 1 -}} true
{{- end -}}
{{- end -}}

{{/* Sleep, late calls, running calls, and 15 s to close connections and give memory back. */}}
{{- define "yoio.gracePeriodSeconds" -}}
{{- add .Values.drain.preStopSeconds .Values.drain.delaySeconds .Values.drain.timeoutSeconds 15 -}}
{{- end -}}

{{- define "yoio.downloadSeconds" -}}
{{- if eq .Values.model.source "download" -}} {{ int .Values.model.download.timeoutSeconds }} {{- else -}} 0 {{- end -}}
{{- end -}}

{{/* A new pod may wait for an old one's GPUs, then fetch the model, then load it. */}}
{{- define "yoio.progressDeadlineSeconds" -}}
{{- add .Values.startup.timeoutSeconds (include "yoio.downloadSeconds" .) (include "yoio.gracePeriodSeconds" .) -}}
{{- end -}}

{{/* Where CPUs are shared there is room for one more pod during a rollout; GPUs are all taken. */}}
{{- define "yoio.rollingUpdate" -}}
{{- if eq (include "yoio.device" .) "cuda" -}}
maxSurge: 0
maxUnavailable: 1
{{- else -}}
maxSurge: 1
maxUnavailable: 0
{{- end -}}
{{- end -}}

{{- define "yoio.workload" -}}
{{- if gt (int .Values.nodes) 1 -}}
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
name: {{ include "yoio.groupName" . }}
{{- else -}}
apiVersion: apps/v1
kind: Deployment
name: {{ include "yoio.fullname" . }}
{{- end -}}
{{- end -}}

{{/* The model's directory inside the container. */}}
{{- define "yoio.modelDirectory" -}}
{{- if eq .Values.model.source "image" -}}
{{ .Values.model.image.directory }}
{{- else if eq .Values.model.source "claim" -}}
/models/{{ .Values.model.claim.name }}
{{- else -}}
/models/{{ base .Values.model.download.repository }}
{{- end -}}
{{- end -}}

{{/* Where a fetched model lies in its volume, so that releases may share one. */}}
{{- define "yoio.downloadSubPath" -}}
{{ .Values.model.download.repository }}/{{ .Values.model.download.revision }}
{{- end -}}

{{/* Whether this server's own listeners speak TLS. Empty for false. */}}
{{- define "yoio.serverHasTls" -}}
{{- if and .Values.tls.enabled (not .Values.guard.enabled) -}} true {{- end -}}
{{- end -}}

{{- define "yoio.appProtocol" -}}
{{- default (ternary "https" "kubernetes.io/h2c" .Values.tls.enabled) .Values.service.appProtocol -}}
{{- end -}}

{{- define "yoio.waitingQuery" -}}
sum(yoio_requests_waiting{namespace="{{ .Release.Namespace }}",service="{{ include "yoio.fullname" . }}-metrics"})
{{- end -}}

{{- define "yoio.nodePeers" -}}
- podSelector:
    matchLabels:
      {{- include "yoio.podLabels" . | nindent 6 }}
{{- end -}}

{{- define "yoio.testPeers" -}}
{{- if .Values.test.enabled -}}
- podSelector:
    matchLabels:
      {{- include "yoio.testLabels" . | nindent 6 }}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{/* Of http://host:4317/path; 80 or 443 where none is given. */}}
{{- define "yoio.otlpPort" -}}
{{- $url := urlParse .Values.otlp.endpoint -}}
{{- $port := regexFind ":[0-9]+$" $url.host -}}
{{- if $port -}} {{ trimPrefix ":" $port }}
{{- else -}} {{ ternary "443" "80" (eq $url.scheme "https") }}
{{- end -}}
{{- end -}}
