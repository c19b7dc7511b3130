{{/* Names and labels. All take the root context. */}}

{{- define "yoio.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters at most: Kubernetes adds up to 23 of its own to names of pods and revisions. */}}
{{- define "yoio.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "yoio.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "yoio.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The LeaderWorkerSet makes a Service of its own name, so that it cannot have that of ours. */}}
{{- define "yoio.groupName" -}}
{{- include "yoio.fullname" . }}-nodes
{{- end -}}

{{- define "yoio.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "yoio.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "yoio.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "yoio.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Every pod of every engine of this release, and nothing else. */}}
{{- define "yoio.podLabels" -}}
app.kubernetes.io/name: {{ include "yoio.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{/* Those of them that take calls. */}}
{{- define "yoio.callableLabels" -}}
{{ include "yoio.podLabels" . }}
{{- if gt (int .Values.nodes) 1 }}
leaderworkerset.sigs.k8s.io/worker-index: "0"
{{- end }}
{{- end -}}

{{- define "yoio.testLabels" -}}
app.kubernetes.io/name: {{ include "yoio.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{/* (dict "image" IMAGE "tag" TAG-IF-NONE) */}}
{{- define "yoio.imageReference" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .tag .image.tag }}
{{- end -}}
{{- end -}}

{{- define "yoio.image" -}}
{{- include "yoio.imageReference" (dict "image" .Values.image "tag" (printf "%s-%s" .Chart.AppVersion (include "yoio.device" .))) -}}
{{- end -}}
