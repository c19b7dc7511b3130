{{/* Fetches the model before the server starts; see files/download.sh. */}}
{{- define "yoio.downloadContainer" -}}
{{- $d := .Values.model.download -}}
- name: download
  image: {{ include "yoio.imageReference" (dict "image" $d.image "tag" "") }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [sh, /etc/yoio/download/download.sh]
  env:
    - name: MODEL_URL
      value: {{ printf "%s/%s/resolve/%s" (trimSuffix "/" $d.endpoint) $d.repository $d.revision }}
    - name: MODEL_DIRECTORY
      value: /model
    - name: CHECKSUMS
      value: /etc/yoio/download/SHA256SUMS
    {{- if $d.tokenSecret }}
    - name: TOKEN_FILE
      value: /etc/yoio/download-token/token
    {{- end }}
    - name: TIMEOUT_SECONDS
      value: {{ int $d.timeoutSeconds | quote }}
    {{- with $d.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  terminationMessagePolicy: FallbackToLogsOnError
  resources:
    {{- toYaml $d.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: config, mountPath: /etc/yoio/download, readOnly: true}
    - name: model
      mountPath: /model
      subPath: {{ include "yoio.downloadSubPath" . }}
    {{- if $d.tokenSecret }}
    - {name: download-token, mountPath: /etc/yoio/download-token, readOnly: true}
    {{- end }}
{{- end -}}
