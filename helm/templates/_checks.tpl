{{/* What values must be together. Everything that is wrong is said at once; single values are the schema's. */}}

{{- define "eni-gateway.faults" -}}
{{- $v := .Values -}}
{{- $url := $v.config.ledger.url -}}
{{- $memory := hasPrefix "memory://" $url -}}

{{- if $v.simulator.enabled }}
{{- if $url }}
- config.ledger.url is set, and simulator.enabled brings its own Redis: unset one of them
{{- end }}
{{- if $v.credentials.mode }}
- credentials.mode is set, and simulator.enabled brings its own key: unset one of them
{{- end }}
{{- if $v.ledgerInit.enabled }}
- ledgerInit.enabled: the simulator's Redis is not there yet when it would run; set it to false
{{- end }}
{{- else }}
{{- if not $url }}
- config.ledger.url is not set, and has no default: give your Redis, such as redis://redis:6379/0, or try it without: -f values-simulator.yaml
{{- end }}
{{- if not $v.credentials.mode }}
- credentials.mode is not set, and has no default: one of rrsa-webhook, rrsa-token, secret, ecs-role, external
{{- end }}
{{- end }}

{{- if $memory }}
{{- if or (gt (int $v.replicaCount) 1) $v.autoscaling.enabled }}
- config.ledger.url is memory://, which each replica keeps for itself: nothing would keep the limit over several; set replicaCount to 1 and autoscaling.enabled to false, or use a Redis
{{- end }}
{{- if or $v.redis.passwordSecret.name $v.redis.caSecret.name $v.redis.clientCertSecretName }}
- config.ledger.url is memory://, which has no use for what stands under redis: unset it
{{- end }}
{{- end }}
{{- /* It is not repeated: a wrong one may hold a password anywhere. */}}
{{- if and $url (not (regexMatch "^(memory://$|unix:///.|rediss?(-cluster)?://.|rediss?-sentinel://.+[?&]master=.)" $url)) }}
- config.ledger.url is none of memory://, unix:///path, redis[s]://host:port/db, redis[s]-sentinel://host,host/db?master=NAME, redis[s]-cluster://host,host: correct it
{{- end }}
{{- if regexMatch "://[^/?]*:[^/?]*@" $url }}
- config.ledger.url holds a password, which would be readable in a ConfigMap: put it into a Secret and name that in redis.passwordSecret.name
{{- end }}
{{- if and (or $v.redis.caSecret.name $v.redis.clientCertSecretName) (not (hasPrefix "rediss" $url)) }}
- redis.caSecret.name or redis.clientCertSecretName is set, and config.ledger.url does not use TLS: write rediss://, rediss-sentinel:// or rediss-cluster://
{{- end }}

{{- range $secret, $settings := dict "tls.secretName" (list $v.tls.secretName $v.config.grpc.tls_cert_file $v.config.grpc.tls_key_file) "tls.clientCaSecretName" (list $v.tls.clientCaSecretName $v.config.grpc.client_ca_file) "redis.passwordSecret.name" (list $v.redis.passwordSecret.name $v.config.ledger.password_file) "redis.caSecret.name" (list $v.redis.caSecret.name $v.config.ledger.ca_file) "redis.clientCertSecretName" (list $v.redis.clientCertSecretName $v.config.ledger.cert_file $v.config.ledger.key_file) }}
{{- if and (first $settings) (without (rest $settings) "") }}
- {{ $secret }} is set, and so is the file in config that it stands for: unset one of them
{{- end }}
{{- end }}
{{- $tls := or $v.tls.secretName $v.config.grpc.tls_cert_file }}
{{- if not (or $tls $v.config.grpc.allow_plaintext) }}
- callers have no way in: set tls.secretName, or config.grpc.allow_plaintext=true where the network protects them
{{- end }}
{{- if and $v.tls.clientCaSecretName (not $tls) }}
- tls.clientCaSecretName is set without tls.secretName: callers show certificates only over TLS
{{- end }}
{{- if eq (include "eni-gateway.port" $v.config.grpc.listen) (include "eni-gateway.port" $v.config.admin.listen) }}
- config.grpc.listen and config.admin.listen have the same port: give one of them another
{{- end }}

{{- if eq $v.credentials.mode "rrsa-webhook" }}
{{- if not $v.credentials.rrsa.roleName }}
- credentials.rrsa.roleName is not set: rrsa-webhook needs the RAM role's name
{{- end }}
{{- if not $v.serviceAccount.create }}
- serviceAccount.create is false: rrsa-webhook annotates the ServiceAccount; annotate yours with pod-identity.alibabacloud.com/role-name and use credentials.mode=external
{{- end }}
{{- else if eq $v.credentials.mode "rrsa-token" }}
{{- if not (and $v.credentials.rrsa.roleArn $v.credentials.rrsa.oidcProviderArn) }}
- credentials.rrsa.roleArn and credentials.rrsa.oidcProviderArn: rrsa-token needs both
{{- end }}
{{- else if and (eq $v.credentials.mode "secret") (not $v.credentials.secret.name) }}
- credentials.secret.name is not set: name the Secret that holds the access key
{{- else if and (eq $v.credentials.mode "external") (not (or $v.extraEnv $v.extraEnvFrom)) (not $v.serviceAccount.name) }}
- credentials.mode is external, and nothing brings them: set extraEnv, extraEnvFrom, or the name of a ServiceAccount that is bound to a role
{{- end }}
{{- if and $v.credentials.rrsa.stsVpc (not $v.credentials.rrsa.stsRegion) }}
- credentials.rrsa.stsVpc is set without credentials.rrsa.stsRegion: STS inside the VPC is a region's
{{- end }}

{{- $needed := add (include "eni-gateway.seconds" $v.config.grpc.drain_timeout) 5 }}
{{- if lt (int64 $v.terminationGracePeriodSeconds) $needed }}
- terminationGracePeriodSeconds is {{ $v.terminationGracePeriodSeconds }}, and must be {{ $needed }} or more: config.grpc.drain_timeout and 5 seconds to end; raise it, or lower that
{{- end }}
{{- if ge (include "eni-gateway.seconds" $v.config.grpc.drain_delay | int) (include "eni-gateway.seconds" $v.config.grpc.drain_timeout | int) }}
- config.grpc.drain_delay is not below config.grpc.drain_timeout, which it is a part of: raise that, or lower it
{{- end }}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) }}
- autoscaling.minReplicas is above autoscaling.maxReplicas: swap them
{{- end }}
{{- if ne (empty $v.tests.instanceId) (empty $v.tests.networkInterfaceId) }}
- tests.instanceId and tests.networkInterfaceId: set both or none
{{- end }}
{{- end }}

{{- define "eni-gateway.check" -}}
{{- with include "eni-gateway.faults" . | trim }}
{{- fail (printf "\n\nthe values cannot be used:\n%s\n" .) }}
{{- end }}
{{- end }}
