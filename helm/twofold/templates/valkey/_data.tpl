{{/* What Valkey is configured with. Nothing of the chart's version: a change of it restarts. */}}
{{- define "twofold.valkeyData" -}}
valkey.conf: |
  bind * -::*
  port {{ .Values.valkey.port }}
  dir /data
  {{- if .Values.valkey.persistence.enabled }}
  appendonly yes
  {{- end }}
  save ""
  maxmemory {{ .Values.valkey.maxMemory }}
  # A membership that forgets workers is worse than one that takes no more of them.
  maxmemory-policy noeviction
# The password goes into a file that only this user reads, and never into an argument.
start.sh: |
  set -eu
  umask 077
  cp "${VALKEY_CONFIG:-/etc/valkey}/valkey.conf" "$VALKEY_RUN/valkey.conf"
  # By its bytes, since a quotation mark, a backslash or the end of a line would end the text.
  password="$(printf %s "$REDISCLI_AUTH" | od -An -v -tx1 | tr -d ' \n' | sed 's/../\\x&/g')"
  printf 'requirepass "%s"\n' "$password" >> "$VALKEY_RUN/valkey.conf"
  exec valkey-server "$VALKEY_RUN/valkey.conf"
{{- end }}
