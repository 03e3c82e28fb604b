{{/* The program's settings: the given ones, and those that follow from other values. */}}

{{/* Mount path of the Secrets. */}}
{{- define "eni-gateway.secretsDir" -}}
/etc/eni-gateway/secrets
{{- end }}

{{/* Mount path of the policy of callers. */}}
{{- define "eni-gateway.policyDir" -}}
/etc/eni-gateway/policy
{{- end }}

{{/* Mount path of the log filter. */}}
{{- define "eni-gateway.loggingDir" -}}
/etc/eni-gateway/logging
{{- end }}

{{/* The effective settings, as JSON, because YAML would not distinguish 10 and "10". */}}
{{- define "eni-gateway.config" -}}
{{- $secrets := include "eni-gateway.secretsDir" . -}}
{{- $config := deepCopy .Values.config -}}
{{- with .Values.tls.secretName }}
{{- $_ := set $config.grpc "tls_cert_file" (printf "%s/tls/tls.crt" $secrets) }}
{{- $_ := set $config.grpc "tls_key_file" (printf "%s/tls/tls.key" $secrets) }}
{{- end }}
{{- with .Values.tls.clientCaSecretName }}
{{- $_ := set $config.grpc "client_ca_file" (printf "%s/client-ca/%s" $secrets $.Values.tls.clientCaKey) }}
{{- with $.Values.tls.clientCrlKey }}
{{- $_ := set $config.grpc "client_crl_file" (printf "%s/client-ca/%s" $secrets .) }}
{{- end }}
{{- end }}
{{- if .Values.identity.policy }}
{{- $_ := set $config.identity "policy_file" (printf "%s/policy.toml" (include "eni-gateway.policyDir" .)) }}
{{- end }}
{{- $_ := set $config.log "filter_file" (printf "%s/filter" (include "eni-gateway.loggingDir" .)) }}
{{- with .Values.redis.passwordSecret }}
{{- if .name }}{{ $_ := set $config.ledger "password_file" (printf "%s/redis-password/%s" $secrets .key) }}{{ end }}
{{- end }}
{{- with .Values.redis.caSecret }}
{{- if .name }}{{ $_ := set $config.ledger "ca_file" (printf "%s/redis-ca/%s" $secrets .key) }}{{ end }}
{{- end }}
{{- with .Values.redis.clientCertSecretName }}
{{- $_ := set $config.ledger "cert_file" (printf "%s/redis-client/tls.crt" $secrets) }}
{{- $_ := set $config.ledger "key_file" (printf "%s/redis-client/tls.key" $secrets) }}
{{- end }}
{{- if .Values.simulator.enabled }}
{{- $name := include "eni-gateway.fullname" . }}
{{- $_ := set $config.ens "endpoint" (printf "http://%s-simulator:18080" $name) }}
{{- $_ := set $config.ens "allow_plaintext" true }}
{{- $_ := set $config.ledger "url" (printf "redis://%s-redis:6379/0" $name) }}
{{- $_ := set $config.ledger "fresh" true }}
{{- end }}
{{- toRawJson $config }}
{{- end }}

{{/* A table as TOML: (dict "path" "" "table" …). `toToml` would write 10 as 10.0. Empty values are not set. */}}
{{- define "eni-gateway.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value) (eq (toString $value) "")) -}}
{{ $key }} = {{ toRawJson $value }}
{{ end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- $inner := ternary $key (printf "%s.%s" $path $key) (eq $path "") }}
[{{ $inner }}]
{{ include "eni-gateway.toml" (dict "path" $inner "table" $value) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The port of an address: IP:PORT. */}}
{{- define "eni-gateway.port" -}}
{{- regexFind "[0-9]+$" . }}
{{- end }}

{{/* A duration such as `1m 30s`, in whole seconds, rounded up. */}}
{{- define "eni-gateway.seconds" -}}
{{- $milliseconds := 0 -}}
{{- $unit := dict "ms" 1 "s" 1000 "sec" 1000 "m" 60000 "min" 60000 "h" 3600000 -}}
{{- range regexFindAll "[0-9]+ *[a-z]+" (toString .) -1 -}}
{{- $milliseconds = add $milliseconds (mul (regexFind "^[0-9]+" . | int64) (get $unit (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- div (add $milliseconds 999) 1000 -}}
{{- end }}
