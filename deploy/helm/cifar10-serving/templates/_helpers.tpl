{{- define "labels" -}}
app.kubernetes.io/name: cifar10-serving
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
