#!/bin/sh
# A warm runner in plain sh: JSON lines, for data without quotes and backslashes.
#
#     reeve up --runner 'sh scripts/demo/functions/serve.sh'
#     reeve submit --wait --function count --data 'to be or not to be'
#     reeve result @                                                      (6)
echo reeve-json
while IFS= read -r line; do
    name=${line#*\"function\":\"}
    name=${name%%\"*}
    data=${line##*\"data\":\"}
    data=${data%\"\}}
    case $name in
        count)
            # shellcheck disable=SC2086 # split into words on purpose
            set -- $data
            echo "{\"result\":\"$#\"}"
            ;;
        greet)
            echo "greeting $data" >&2
            echo "{\"result\":\"hello $data\"}"
            ;;
        die) exit 9 ;;
        *) echo "{\"code\":127,\"error\":\"no function $name\"}" ;;
    esac
done
