{{/*
An Envoy in front of the server. As an init container that keeps running it starts before the server and ends after
it, so that streams that drain pass through it to their end.
*/}}
{{- define "yoio.guardContainer" -}}
{{- $g := .Values.guard -}}
- name: guard
  image: {{ include "yoio.imageReference" (dict "image" $g.image "tag" "") }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  command: [envoy]
  args:
    - --config-path
    - /etc/envoy/envoy.yaml
    - --disable-hot-restart
    - --concurrency
    - "2"
    - --log-level
    - warn
  ports:
    - {name: grpc, containerPort: 50051}
  {{- range list "startupProbe" "readinessProbe" "livenessProbe" }}
  {{ . }}:
    tcpSocket:
      port: 50051
    periodSeconds: 5
    timeoutSeconds: 5
  {{- end }}
  resources:
    {{- toYaml $g.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: config, mountPath: /etc/envoy, readOnly: true}
    {{- if .Values.tls.enabled }}
    - {name: tls, mountPath: /etc/yoio/tls, readOnly: true}
    {{- if and .Values.tls.clientCertificates .Values.tls.clientCaSecret }}
    - {name: client-ca, mountPath: /etc/yoio/client-ca, readOnly: true}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* Envoy's configuration. It has no admin listener. */}}
{{- define "yoio.guardConfig" -}}
{{- $g := .Values.guard -}}
node: {id: guard, cluster: {{ include "yoio.fullname" . }}}
overload_manager:
  refresh_interval: 0.25s
  resource_monitors:
    - name: envoy.resource_monitors.fixed_heap
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig
        max_heap_size_bytes: {{ int64 $g.maxHeapBytes }}
    - name: envoy.resource_monitors.global_downstream_max_connections
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
        max_active_downstream_connections: {{ int64 $g.maxConnections }}
  actions:
    - name: envoy.overload_actions.shrink_heap
      triggers:
        - name: envoy.resource_monitors.fixed_heap
          threshold: {value: 0.90}
    - name: envoy.overload_actions.stop_accepting_requests
      triggers:
        - name: envoy.resource_monitors.fixed_heap
          threshold: {value: 0.95}
static_resources:
  listeners:
    - name: data
      address:
        socket_address: {address: {{ trimAll "[]" .Values.network.bindAddress | quote }}, port_value: 50051}
      per_connection_buffer_limit_bytes: 1048576
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: data
                codec_type: HTTP2
                use_remote_address: true
                max_request_headers_kb: 16
                # A client has so long to send its headers, and its whole request.
                request_headers_timeout: 10s
                request_timeout: 60s
                # An answer may take as long as it takes: the server itself ends what stalls.
                stream_idle_timeout: 0s
                common_http_protocol_options:
                  idle_timeout: 900s
                  max_headers_count: 100
                http2_protocol_options:
                  max_concurrent_streams: {{ int $g.maxConcurrentStreams }}
                  initial_stream_window_size: 262144
                  initial_connection_window_size: 1048576
                  connection_keepalive: {interval: 60s, timeout: 20s}
                route_config:
                  virtual_hosts:
                    - name: server
                      domains: ["*"]
                      routes:
                        - match: {prefix: "/", grpc: {}}
                          route:
                            cluster: server
                            # Envoy's default of 15 s would end streams.
                            timeout: 0s
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          {{- if .Values.tls.enabled }}
          transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              require_client_certificate: {{ .Values.tls.clientCertificates }}
              common_tls_context:
                alpn_protocols: [h2]
                tls_params: {tls_minimum_protocol_version: TLSv1_2}
                tls_certificate_sds_secret_configs:
                  - name: certificate
                    sds_config:
                      path_config_source: {path: /etc/envoy/certificate.yaml}
                      resource_api_version: V3
                {{- if .Values.tls.clientCertificates }}
                validation_context_sds_secret_config:
                  name: client-ca
                  sds_config:
                    path_config_source: {path: /etc/envoy/client-ca.yaml}
                    resource_api_version: V3
                {{- end }}
          {{- end }}
  clusters:
    - name: server
      type: STATIC
      connect_timeout: 1s
      per_connection_buffer_limit_bytes: 1048576
      # The server has limits and a queue of its own; these would only hide them.
      circuit_breakers:
        thresholds:
          - {max_connections: 1024, max_pending_requests: 65536, max_requests: 65536}
      load_assignment:
        cluster_name: server
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    socket_address: {address: 127.0.0.1, port_value: 50061}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config:
            http2_protocol_options:
              max_concurrent_streams: 1024
{{- end -}}

{{/* Files that Envoy reads again when Kubernetes switches a Secret's link over. */}}
{{- define "yoio.guardSecrets" -}}
certificate.yaml: |
  resources:
    - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
      name: certificate
      tls_certificate:
        certificate_chain: {filename: /etc/yoio/tls/tls.crt}
        private_key: {filename: /etc/yoio/tls/tls.key}
        watched_directory: {path: /etc/yoio/tls}
{{- if .Values.tls.clientCertificates }}
client-ca.yaml: |
  resources:
    - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
      name: client-ca
      validation_context:
        trusted_ca: {filename: {{ include "yoio.clientCa" . }}}
        watched_directory: {path: {{ dir (include "yoio.clientCa" .) }}}
{{- end }}
{{- end -}}
