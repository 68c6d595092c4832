# shellcheck shell=bash
# What must not leave a machine in a bundle for others. Sourced by scripts/diagnostics and by its tests.
#
# The first line of defence is what is asked for at all: the fields of containers are chosen one by one, of variables the name is taken and
# not the value. This is the second one, for text that nobody chose: logs, and the words of programs.

# The names of variables whose values are secrets, wherever they turn up.
# shellcheck disable=SC2034 # for those who source this
secret_names='PASS|SECRET|TOKEN|KEY|AUTH|CREDENTIAL|COOKIE|PRIVATE'

# redact MASKS: standard input without private keys, credentials and the lines of the file MASKS, which are taken literally.
redact() {
    local word="[A-Za-z0-9_.-]*(password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|cookie)[A-Za-z0-9_-]*"
    # A key in one line (as JSON has it), or over several: that of RSA with 4096 bits has 52.
    awk '
        BEGIN { left_out = "(a private key was left out)" }
        within { within = /-----END [A-Z ]*PRIVATE KEY-----/ || ++count > 60 ? 0 : 1; next }
        {
            gsub(/-----BEGIN [A-Z ]*PRIVATE KEY-----([^-]|-[^-])*-----END [A-Z ]*PRIVATE KEY-----/, left_out)
            if (match($0, /-----BEGIN [A-Z ]*PRIVATE KEY-----/)) {
                # What is in one line with its beginning goes on in the next lines only where it stands alone.
                within = substr($0, RSTART + RLENGTH) ~ /^[[:space:]]*$/; count = 0
                $0 = substr($0, 1, RSTART - 1) left_out
            }
            print
        }' | sed -E \
        -e 's#([A-Za-z][A-Za-z0-9+.-]*://)[^/@[:space:]"]+@#\1(left out)@#g' \
        -e 's#(([Pp]roxy-)?[Aa]uthorization|X-Registry-Auth)("?[[:space:]]*[:=][[:space:]]*"?)[^",;]+#\1\3(left out)#g' \
        -e 's#\b(Bearer|Basic)[[:space:]]+[A-Za-z0-9._~+/=-]{6,}#\1 (left out)#g' \
        -e "s#($word)([\"']?[[:space:]]*[:=][[:space:]]*)(\"[^\"]*\"|'[^']*'|[^[:space:],;\"']+)#\1\3(left out)#gI" \
        -e "s#(--?$word)[[:space:]]+[^[:space:]-][^[:space:]]*#\1 (left out)#gI" \
        -e 's#\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)?#(left out)#g' \
        -e 's#\b(gh[pousr]_[A-Za-z0-9]{20,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|dckr_pat_[A-Za-z0-9_-]{16,})#(left out)#g' |
        awk -v masks="$1" '
            BEGIN {
                while ((getline line < masks) > 0) if (length(line) >= 4) mask[++count] = line
                # The longest first: one may be part of another.
                for (i = 1; i <= count; i++) for (j = i + 1; j <= count; j++)
                    if (length(mask[j]) > length(mask[i])) { line = mask[i]; mask[i] = mask[j]; mask[j] = line }
            }
            {
                for (i = 1; i <= count; i++) {
                    rest = $0; done = ""
                    while ((at = index(rest, mask[i])) > 0) {
                        done = done substr(rest, 1, at - 1) "(left out)"
                        rest = substr(rest, at + length(mask[i]))
                    }
                    $0 = done rest
                }
                print
            }'
}
