{{- define "bertstream.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "bertstream.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "bertstream.labels" -}}
{{ include "bertstream.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "bertstream.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* JSON's texts, numbers, booleans and lists of them are TOML's, too. */ -}}
{{- define "bertstream.toml" -}}
# Written by the chart from its values.
models = {{ toJson .Values.models }}
host = "0.0.0.0"
port = 50051
{{- if .Values.tls.secret }}
tls_certificate = "/etc/bertstream/tls/tls.crt"
tls_key = "/etc/bertstream/tls/tls.key"
{{- end }}
{{- if .Values.keys.secret }}
keys_file = "/etc/bertstream/keys/keys.toml"
{{- end }}
{{- if not (or .Values.tls.secret .Values.keys.secret) }}
{{- if not .Values.insecure }}
{{- fail "nothing protects the port: name tls.secret or keys.secret, or set insecure=true where the network is safe" }}
{{- end }}
insecure = true
{{- end }}
{{- if .Values.http.enabled }}
http_port = {{ .Values.http.port }}
{{- end }}
admin_port = 9464
admin_host = "0.0.0.0"
cache = "/var/cache/bertstream"
{{- range $name, $value := omit .Values.config "model" }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- range $model, $options := .Values.config.model }}

[model.{{ toJson $model }}]
{{- range $name, $value := $options }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "bertstream.scheme" -}}
{{- if .Values.tls.secret }}https{{ else }}http{{ end -}}
{{- end -}}
