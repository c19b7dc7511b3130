{{/* The server's command line. */}}

{{/* A value of `flags` as the server reads it: numbers from YAML are floats here. */}}
{{- define "yoio.flagValue" -}}
{{- if kindIs "bool" . -}}
{{- ternary "on" "off" . -}}
{{- else if kindIs "float64" . -}}
{{- if eq . (floor .) -}} {{ int64 . }} {{- else -}} {{ . }} {{- end -}}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{/* (dict "root" ROOT "role" leader-or-follower) */}}
{{- define "yoio.args" -}}
{{- $v := .root.Values -}}
{{- $several := gt (int $v.nodes) 1 -}}
{{- $bind := $v.network.bindAddress -}}
- --model={{ include "yoio.modelDirectory" .root }}
- --device={{ include "yoio.device" .root }}
- --tensor-parallel-size={{ int $v.tensorParallelSize }}
- --health-listen={{ $bind }}:50052
- --load-timeout={{ sub $v.startup.timeoutSeconds 10 }}s
- --termination-log=/dev/termination-log
{{- if $v.model.configOverride }}
- --config-override=/etc/yoio/model/override.json
{{- end }}
{{- if $several }}
- --nnodes={{ int $v.nodes }}
- --follower-token-file=/etc/yoio/followers/token
{{- if $v.followers.tls.enabled }}
- --followers-tls-cert=/etc/yoio/followers-tls/tls.crt
- --followers-tls-key=/etc/yoio/followers-tls/tls.key
- --followers-tls-ca=/etc/yoio/followers-tls/ca.crt
{{- end }}
{{- end }}
{{- if include "yoio.needsPlaintext" . }}
- --allow-plaintext
{{- end }}
{{- if eq .role "follower" }}
- --node-rank=$(LWS_WORKER_INDEX)
- --leader-address=$(LWS_LEADER_ADDRESS):50054
{{- else }}
{{- if $several }}
- --followers-listen={{ $bind }}:50054
{{- end }}
- --listen={{ if $v.guard.enabled }}127.0.0.1:50061{{ else }}{{ $bind }}:50051{{ end }}
- --metrics-listen={{ $bind }}:9464
- --flight-dump=/var/lib/yoio/flight.jsonl
- --profile-file=/var/lib/yoio/profile.json.gz
- --drain-delay={{ int $v.drain.delaySeconds }}s
- --drain-timeout={{ int $v.drain.timeoutSeconds }}s
{{- with $v.model.servedNames }}
- --served-model-name={{ join "," . }}
{{- end }}
{{- if include "yoio.serverHasTls" .root }}
- --tls-cert=/etc/yoio/tls/tls.crt
- --tls-key=/etc/yoio/tls/tls.key
{{- if $v.tls.clientCertificates }}
- --tls-client-ca={{ include "yoio.clientCa" .root }}
{{- end }}
{{- end }}
{{- if $v.apiKeys.secret }}
- --api-keys=/etc/yoio/api-keys/keys.json
{{- end }}
{{- if $v.admin.enabled }}
- --admin-listen={{ ternary $bind "127.0.0.1" $v.admin.expose }}:50053
- --admin-token-file=/etc/yoio/admin/token
{{- end }}
{{- end }}
{{- /* Followers take only what every node may have; the rest they learn from the leader. */}}
{{- range $name, $value := $v.flags }}
{{- if or (eq $.role "leader") (has $name (list "threads")) }}
- --{{ $name }}={{ include "yoio.flagValue" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "yoio.clientCa" -}}
/etc/yoio/{{ ternary "client-ca" "tls" (ne .Values.tls.clientCaSecret "") }}/ca.crt
{{- end -}}

{{/* Whether this node speaks to others unencrypted. Leaders do: metrics are plain HTTP. Empty for false. */}}
{{- define "yoio.needsPlaintext" -}}
{{- $v := .root.Values -}}
{{- if or (eq .role "leader") (and (gt (int $v.nodes) 1) (not $v.followers.tls.enabled)) -}} true {{- end -}}
{{- end -}}
