# Action Cable's Redis adapter, unmodified, on two nodes, as two Rails processes would have it.
#
#     action_cable.rb --smoke HOST:PORT HOST:PORT        exit 0 if all came
require "logger"
require "timeout"
require "active_support"
require "active_support/core_ext"
require "action_cable"
require "action_cable/subscription_adapter/redis"

abort "action_cable.rb --smoke HOST:PORT HOST:PORT" unless ARGV.size == 3 && ARGV[0] == "--smoke"

def server(address)
  config = ActionCable::Server::Configuration.new
  config.cable = { "adapter" => "redis", "url" => "redis://#{address}/1" }
  config.logger = Logger.new($stderr, level: Logger::WARN)
  ActionCable::Server::Base.new(config: config)
end

def take(queue)
  Timeout.timeout(20) { queue.pop }
end

there, here = ARGV[1..].map { |address| server(address) }
came, subscribed = Queue.new, Queue.new
heard = ->(message) { came << ActiveSupport::JSON.decode(message) }
there.pubsub.subscribe("room", heard, -> { subscribed << true })
take(subscribed)
100.times { |number| here.broadcast("room", { number: number, text: "é\u0000" }) }
# It hands messages to a pool of threads, so their order is nobody's.
got = Array.new(100) { take(came) }.sort_by { |message| message["number"] }
expected = Array.new(100) { |number| { "number" => number, "text" => "é\u0000" } }
abort "got #{got.inspect}" unless got == expected

there.pubsub.subscribe("other", heard, -> { subscribed << true })
take(subscribed)
there.pubsub.unsubscribe("room", heard)
here.broadcast("other", { number: 1 })
abort "the other stream is silent" unless take(came) == { "number" => 1 }
there.pubsub.shutdown
here.pubsub.shutdown
puts "ok (Action Cable #{ActionCable.version})"
