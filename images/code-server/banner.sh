# shellcheck shell=sh disable=SC2034 # zsh reads SAVEHIST and HISTSIZE
# For interactive shells in the editor (sourced by bash and zsh): a history that outlives the container, and what there is to say.
case $- in
    *i*)
        if [ -n "${BASH_VERSION:-}" ] && [ -d "$HOME/.local/state/bash" ]; then
            HISTFILE=$HOME/.local/state/bash/history
            # Each command at once: the terminal of a browser is rarely closed by its user.
            PROMPT_COMMAND="history -a${PROMPT_COMMAND:+; $PROMPT_COMMAND}"
        elif [ -n "${ZSH_VERSION:-}" ] && [ -d "$HOME/.local/state/zsh" ]; then
            HISTFILE=$HOME/.local/state/zsh/history SAVEHIST=10000 HISTSIZE=10000
            setopt inc_append_history
        fi
        # Not to a program that only asks a shell for its environment.
        if [ -t 1 ] && [ -s /run/dindctl/banner ] && [ -z "${DINDCTL_BANNER_SHOWN:-}" ]; then
            cat /run/dindctl/banner
            export DINDCTL_BANNER_SHOWN=1
        fi
        ;;
esac
