{{/*
The pod of one node: (dict "root" ROOT "role" leader-or-follower). With one node it is a leader.
*/}}
{{- define "yoio.pod" -}}
{{- $v := .root.Values -}}
{{- $leader := eq .role "leader" -}}
metadata:
  labels:
    {{- include "yoio.podLabels" .root | nindent 4 }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The container that `kubectl logs` and `kubectl debug` take.
    kubectl.kubernetes.io/default-container: server
    # What the server reads once, at its start: a change rolls the pods.
    checksum/config: {{ include "yoio.configData" .root | sha256sum }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "yoio.serviceAccountName" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "yoio.gracePeriodSeconds" .root }}
  securityContext:
    {{- toYaml $v.podSecurityContext | nindent 4 }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "yoio.scheduling" .root | nindent 2 }}
  {{- $first := list }}
  {{- if eq $v.model.source "download" }}
  {{- $first = append $first (include "yoio.downloadContainer" .root) }}
  {{- end }}
  {{- if and $leader $v.guard.enabled }}
  {{- $first = append $first (include "yoio.guardContainer" .root) }}
  {{- end }}
  {{- with $first }}
  initContainers:
    {{- join "\n" . | nindent 4 }}
  {{- end }}
  containers:
    - name: server
      image: {{ include "yoio.image" .root }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [yoio-server]
      args:
        {{- include "yoio.args" . | nindent 8 }}
      env:
        {{- include "yoio.env" . | nindent 8 }}
      ports:
        {{- if $leader }}
        {{- if not $v.guard.enabled }}
        - {name: grpc, containerPort: 50051}
        {{- end }}
        - {name: metrics, containerPort: 9464}
        {{- if and $v.admin.enabled $v.admin.expose }}
        - {name: admin, containerPort: 50053}
        {{- end }}
        {{- if gt (int $v.nodes) 1 }}
        - {name: followers, containerPort: 50054}
        {{- end }}
        {{- end }}
        - {name: health, containerPort: 50052}
      {{- include "yoio.probes" .root | nindent 6 }}
      {{- if and $leader (gt (int $v.drain.preStopSeconds) 0) }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ int $v.drain.preStopSeconds }}
      {{- end }}
      terminationMessagePath: /dev/termination-log
      terminationMessagePolicy: FallbackToLogsOnError
      resources:
        {{- include "yoio.resources" .root | nindent 8 }}
      securityContext:
        {{- toYaml $v.securityContext | nindent 8 }}
      volumeMounts:
        {{- include "yoio.volumeMounts" . | nindent 8 }}
  volumes:
    {{- include "yoio.volumes" . | nindent 4 }}
{{- end -}}

{{/* Pods of the workload: on the health listener, which has neither keys nor TLS, followers' too. */}}
{{- define "yoio.probes" -}}
startupProbe:
  grpc:
    port: 50052
    service: yoio.v1.InferenceService
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add .Values.startup.timeoutSeconds 4) 5 }}
readinessProbe:
  grpc:
    port: 50052
    service: yoio.v1.InferenceService
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  grpc:
    port: 50052
    service: liveness
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{- define "yoio.env" -}}
{{- $v := .root.Values -}}
- name: K8S_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: K8S_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- if and (eq .role "leader") $v.otlp.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ $v.otlp.endpoint | quote }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ include "yoio.resourceAttributes" .root | quote }}
{{- range $name, $value := $v.otlp.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with $v.otlp.headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: headers
{{- end }}
{{- end }}
{{- with $v.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "yoio.resourceAttributes" -}}
{{- $attributes := list (printf "k8s.namespace.name=%s" .Release.Namespace) -}}
{{- range $name, $value := .Values.otlp.resourceAttributes -}}
{{- $attributes = append $attributes (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join "," $attributes -}}
{{- end -}}

{{/* `resources`, and the pod's GPUs. */}}
{{- define "yoio.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if gt (int .Values.gpu.count) 0 -}}
{{- $gpus := dict .Values.gpu.resource (int .Values.gpu.count) -}}
{{- $_ := set $resources "limits" (mergeOverwrite (default dict $resources.limits) $gpus) -}}
{{- $_ := set $resources "requests" (mergeOverwrite (default dict $resources.requests) $gpus) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "yoio.scheduling" -}}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml .Values.topologySpreadConstraints | nindent 2 }}
{{- else if and (kindIs "invalid" .Values.topologySpreadConstraints) (eq (int .Values.nodes) 1) }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "yoio.podLabels" $ | nindent 8 }}
    # Pods of the revision that a rollout replaces do not count.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}
